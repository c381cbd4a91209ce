import importlib.metadata
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from netllm_heads import NO_LABEL, Pointer

WIDTH = 16
DEMAND = 4


def make_head(**settings) -> Pointer:
    torch.manual_seed(0)
    return Pointer(**{"width": WIDTH, "hidden": 8} | settings)


def make_step(
    demand: list[int],
    schedulable: list[int] | None = None,
    *,
    committable: int = 6,
    executors: int = 50,
    can_wait: bool = True,
) -> dict[str, torch.Tensor]:
    """One step with these demands, its stages all schedulable or only those rows."""
    stages = torch.rand(len(demand), 9, generator=torch.Generator().manual_seed(len(demand)))
    stages[:, DEMAND] = torch.tensor(demand)
    flags = torch.zeros(len(demand), dtype=torch.bool)
    flags[list(range(len(demand))) if schedulable is None else schedulable] = True
    return {
        "stages": stages,
        "schedulable": flags,
        "committable": torch.tensor(committable, dtype=torch.int16),
        "executors": torch.tensor(executors, dtype=torch.int32),
        "can_wait": torch.tensor(can_wait),
    }


PADDING = make_step([], committable=0, executors=0, can_wait=False)
STEPS = [
    make_step([3, 9, 1, 20], [0, 1, 3]),
    PADDING,
    make_step([2, 2], committable=1, can_wait=False),
    make_step([5, 5, 5], []),
    make_step([12, 7, 40, 1, 3], [1, 2, 4], committable=30, executors=30),
    make_step([1]),
]


def together(steps: list[dict[str, torch.Tensor]], batch: int = 1) -> dict[str, object]:
    observation: dict[str, object] = {}
    for name in steps[0]:
        values = [step[name] for step in steps]
        if values[0].ndim:
            sizes = torch.tensor([0, *map(len, values)])
            observation[name] = (torch.cat(values), sizes.cumsum(0))
        else:
            observation[name] = torch.stack(values).view(batch, -1)
    return observation


def make_hidden(steps: list[dict[str, torch.Tensor]], seed: int = 1, size: float = 1.0):
    counts = [int(step["schedulable"].sum()) for step in steps]
    sizes = torch.tensor([0, *(n + 3 if n else 0 for n in counts)])
    generator = torch.Generator().manual_seed(seed)
    values = size * torch.randn(int(sizes.sum()), WIDTH, generator=generator)
    return values, sizes.cumsum(0)


def stages_by_hand(head: Pointer, states: torch.Tensor) -> list[torch.Tensor]:
    """Logits of a step's stages and of none, one after the other."""
    decision = head.decision_norm(states[-1])
    between, query = head.decision_layer(decision).chunk(2)
    logits = []
    for state in states[2:-1]:
        mine, key = head.stage_layer(head.stage_norm(state)).chunk(2)
        logits.append(head.stage_logit(between + mine)[0] + query @ key / math.sqrt(head.hidden))
    return [*logits, head.none_logit(decision)[0]]


def executors_by_hand(head: Pointer, states: torch.Tensor, choice: int, limit: int, total: int):
    pair = [head.decision_norm(states[-1]), head.stage_norm(states[2 + choice])]
    query = head.query(torch.cat(pair))
    logits = []
    for k in range(1, limit + 1):
        waves = [math.pi * 2**j * k / total for j in range(6)]
        features = [k / total, k / limit, math.log(k), float(k == limit)]
        features += [*map(math.sin, waves), *map(math.cos, waves)]
        logits.append(query @ head.key(torch.tensor(features)) / math.sqrt(head.hidden))
    return torch.stack(logits)


def by_hand(head: Pointer, hidden, steps):
    """Per step the log-probabilities of stages and none, and per stage those of executors."""
    values, ptr = hidden
    for i, step in enumerate(steps):
        states = values[ptr[i] : ptr[i + 1]]
        if not len(states):
            yield None, []
            continue
        logits = torch.stack(stages_by_hand(head, states))
        if not step["can_wait"]:
            logits[-1] = -math.inf
        executors = []
        for choice, row in enumerate(step["schedulable"].nonzero()[:, 0]):
            limit = min(int(step["stages"][row, DEMAND]), int(step["committable"]))
            these = executors_by_hand(head, states, choice, limit, int(step["executors"]))
            executors.append(these.log_softmax(0))
        yield logits.log_softmax(0), executors


def test_distributions_equal_plain_loops_over_steps_stages_and_executors():
    head, hidden, observation = make_head(), make_hidden(STEPS), together(STEPS, batch=2)
    stages, ptr = head.distribution(hidden, observation)
    assert ptr.tolist() == [0, 4, 4, 7, 7, 11, 13]
    for choice in range(3):
        chosen = torch.tensor([[choice, 2, min(choice, 1)], [9, choice, -1]])
        executors, ends = head.distribution(hidden, observation, chosen)
        for i, (expected, more) in enumerate(by_hand(head, hidden, STEPS)):
            found = executors[ends[i] : ends[i + 1]]
            if expected is None or chosen.flatten()[i] < 0:
                assert len(found) == 0
            else:
                torch.testing.assert_close(found, more[chosen.flatten()[i]])
            if expected is not None:
                torch.testing.assert_close(stages[ptr[i] : ptr[i + 1]], expected)


def test_the_loss_is_the_cross_entropy_of_the_stage_and_of_the_executors_given_it():
    head, hidden, observation = make_head(), make_hidden(STEPS), together(STEPS, batch=2)
    label = torch.tensor([[[2, 4], [0, 3], [1, 1]], [[5, 5], [1, 27], [-1, 1]]])
    hand = list(by_hand(head, hidden, STEPS))
    expected = [
        -(hand[0][0][2] + hand[0][1][2][3]),
        torch.tensor(0.0),
        -(hand[2][0][1] + hand[2][1][1][0]),
        torch.tensor(0.0),
        -(hand[4][0][1] + hand[4][1][1][26]),
        -hand[5][0][-1],
    ]
    loss = head.loss(hidden, observation, label)
    torch.testing.assert_close(loss, torch.stack(expected).view(2, 3))


def test_executors_of_a_label_are_taken_within_the_limit():
    head, hidden, observation = make_head(), make_hidden(STEPS[:1]), together(STEPS[:1])

    def loss(executors):
        return head.loss(hidden, observation, torch.tensor([[[0, executors]]]))

    # The stage's demand is 3, of 6 committable.
    assert torch.equal(loss(3), loss(6))
    assert torch.equal(loss(0), loss(1))
    assert not torch.allclose(loss(2), loss(3))


def test_a_step_without_label_has_no_loss_and_no_gradient():
    head, (values, ptr) = make_head(), make_hidden(STEPS)
    values.requires_grad_()
    label = torch.full((1, 6, 2), NO_LABEL)
    label[0, 4] = torch.tensor([1, 2])
    loss = head.loss((values, ptr), together(STEPS), label)
    assert (loss > 0).tolist() == [[False] * 4 + [True, False]]
    loss.sum().backward()
    moved = values.grad.abs().sum(-1) > 0
    assert values.grad.isfinite().all()
    # Of the step's tokens all stages and the decision, neither return-to-go nor globals.
    expected = torch.zeros(len(values), dtype=torch.bool)
    expected[ptr[4] + 2 : ptr[5]] = True
    assert torch.equal(moved, expected)


def test_padding_only_has_no_loss_and_waits_for_nothing():
    head, steps = make_head(), [PADDING, PADDING]
    hidden, observation = make_hidden(steps), together(steps)
    label = torch.zeros(1, 2, 2, dtype=torch.int64)
    loss = head.loss(hidden, observation, label)
    assert loss.tolist() == [[0, 0]]
    assert head.answer(hidden, observation).tolist() == [[[-1, 0], [-1, 0]]]
    assert head.answer(hidden, observation, greedy=False).tolist() == [[[-1, 0], [-1, 0]]]


@pytest.mark.parametrize("seed", range(8))
def test_the_greedy_answer_is_the_most_probable_stage_then_executors(seed):
    head, hidden = make_head(), make_hidden(STEPS, seed=seed)
    answer = head.answer(hidden, together(STEPS, batch=2))
    assert answer.dtype == torch.int64
    for (choice, executors), (stages, more) in zip(
        answer.view(-1, 2).tolist(), by_hand(head, hidden, STEPS), strict=True
    ):
        if stages is None:
            assert (choice, executors) == (-1, 0)
        elif int(stages.argmax()) == len(more):
            assert (choice, executors) == (-1, 1)
        else:
            assert choice == int(stages.argmax())
            assert executors == int(more[choice].argmax()) + 1


def test_each_step_is_answered_alone():
    head, (values, ptr) = make_head(), make_hidden(STEPS)
    answer = head.answer((values, ptr), together(STEPS))
    label = answer.clone()
    loss = head.loss((values, ptr), together(STEPS), label)
    for i, step in enumerate(STEPS):
        states = values[ptr[i] : ptr[i + 1]]
        alone = states, torch.tensor([0, len(states)])
        assert torch.equal(head.answer(alone, together([step])), answer[:, i : i + 1])
        torch.testing.assert_close(
            head.loss(alone, together([step]), label[:, i : i + 1]), loss[:, i : i + 1]
        )


def test_draws_follow_the_distribution():
    head, step = make_head(), make_step([2, 3, 1], committable=2)
    for layer in (head.stage_logit[-1], head.none_logit[-1], head.query[-1]):
        torch.nn.init.normal_(layer.weight, std=2.0)
    (values, _), many = make_hidden([step]), 20_000
    hidden = values.repeat(many, 1), 6 * torch.arange(many + 1)
    generator = torch.Generator().manual_seed(5)
    drawn = head.answer(hidden, together([step] * many), greedy=False, generator=generator)[0]
    with torch.no_grad():
        ((stages, given_stage),) = by_hand(head, make_hidden([step]), [step])
    shares = []
    for choice, log in enumerate(stages[:-1]):
        for k, more in enumerate(given_stage[choice], start=1):
            expected = math.exp(log + more)
            share = float(((drawn[:, 0] == choice) & (drawn[:, 1] == k)).float().mean())
            # Five standard errors.
            assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / many)
            shares.append(share)
    waits = (drawn == torch.tensor([-1, 1])).all(-1).float().mean()
    assert abs(float(waits) - math.exp(stages[-1])) < 5 * math.sqrt(0.25 / many)
    assert sum(shares) + float(waits) == pytest.approx(1)
    again = torch.Generator().manual_seed(5)
    repeated = head.answer(hidden, together([step] * many), greedy=False, generator=again)[0]
    assert torch.equal(drawn, repeated)


def test_any_number_of_stages_and_executors():
    step = make_step([5000] * 300, committable=2000, executors=2000)
    head, hidden, observation = make_head(), make_hidden([step]), together([step])
    choice, executors = head.answer(hidden, observation)[0, 0].tolist()
    assert -1 <= choice < 300
    assert 1 <= executors <= 2000
    logs, ptr = head.distribution(hidden, observation, torch.tensor([[299]]))
    assert ptr.tolist() == [0, 2000]
    torch.testing.assert_close(logs.exp().sum(), torch.tensor(1.0))
    assert head.loss(hidden, observation, torch.tensor([[[299, 2000]]])).isfinite().all()


@settings(max_examples=50, deadline=None)
@given(data=st.data(), size=st.sampled_from([1e-3, 1.0, 1e6]), greedy=st.booleans())
def test_every_answer_is_valid_and_has_a_finite_loss(data, size, greedy):
    steps = []
    for _ in range(data.draw(st.integers(1, 5))):
        demand = data.draw(st.lists(st.integers(1, 60), max_size=6))
        rows = data.draw(st.sets(st.integers(0, len(demand) - 1))) if demand else set()
        steps.append(
            make_step(
                demand,
                sorted(rows),
                committable=data.draw(st.integers(1, 50)),
                can_wait=data.draw(st.booleans()),
            )
        )
    seed = data.draw(st.integers(0, 2**31))
    head, hidden, observation = make_head(), make_hidden(steps, seed, size), together(steps)
    generator = torch.Generator().manual_seed(seed)
    answer = head.answer(hidden, observation, greedy=greedy, generator=generator)
    for (choice, executors), step in zip(answer[0].tolist(), steps, strict=True):
        rows = step["schedulable"].nonzero()[:, 0]
        if not len(rows):
            assert (choice, executors) == (-1, 0)
        elif choice == -1:
            assert step["can_wait"]
            assert executors == 1
        else:
            demand = int(step["stages"][rows[choice], DEMAND])
            assert 1 <= executors <= min(demand, int(step["committable"]))
    loss = head.loss(hidden, observation, answer)
    assert loss.isfinite().all()
    assert (loss >= -1e-6).all()


def test_every_weight_learns():
    head = make_head()
    label = torch.tensor([[[1, 2], [0, 0], [0, 1], [0, 0], [2, 3], [-1, 1]]])
    head.loss(make_hidden(STEPS), together(STEPS), label).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad.isfinite().all(), name
        # A constant added to all logits of executors changes nothing; likewise no other weight.
        assert weight.grad.abs().sum() > 0 or name == "key.2.bias", name


def test_a_head_learns_labels_that_the_states_tell():
    head, hidden, observation = make_head(hidden=32), make_hidden(STEPS), together(STEPS)
    label = torch.tensor([[[2, 4], [0, 0], [1, 1], [0, 0], [1, 17], [-1, 1]]])
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = head.loss(hidden, observation, label).sum()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    expected = label.clone()
    expected[0, [1, 3]] = torch.tensor([-1, 0])
    assert torch.equal(head.answer(hidden, observation), expected)


def test_the_loss_of_several_answers_is_their_weighted_sum():
    head, hidden, observation = make_head(), make_hidden(STEPS), together(STEPS)
    one = torch.tensor([[[2, 4], [0, 0], [1, 1], [0, 0], [1, 17], [-1, 1]]])
    two = torch.tensor([[[2, 7], [0, 0], [0, 1], [0, 0], [-1, 1], [0, 1]]])
    weights = torch.tensor([0.25, 0.75])
    answers = torch.stack([one, two], 2).float()
    several = torch.cat([answers, weights.view(1, 1, 2, 1).expand(1, 6, 2, 1)], -1)
    absent = torch.cat([several, torch.tensor([99.0, 99.0, 0.0]).expand(1, 6, 1, 3)], 2)
    losses = [head.loss(hidden, observation, label) for label in (one, two)]
    wanted = weights[0] * losses[0] + weights[1] * losses[1]
    torch.testing.assert_close(head.loss(hidden, observation, several), wanted)
    torch.testing.assert_close(head.loss(hidden, observation, absent), wanted)


def test_the_loss_of_several_answers_is_least_at_their_weights():
    head, hidden, observation = make_head(hidden=32), make_hidden(STEPS[:1]), together(STEPS[:1])
    label = torch.tensor([[[[0.0, 1, 0.1], [0, 2, 0.3], [1, 6, 0.4], [-1, 1, 0.2]]]])
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(600):
        optimizer.zero_grad()
        head.loss(hidden, observation, label).sum().backward()
        optimizer.step()
    stages, _ = head.distribution(hidden, observation)
    executors, _ = head.distribution(hidden, observation, torch.tensor([[0]]))
    torch.testing.assert_close(stages.exp(), torch.tensor([0.4, 0.4, 0, 0.2]), atol=0.03, rtol=0)
    torch.testing.assert_close(executors.exp(), torch.tensor([0.25, 0.75, 0]), atol=0.03, rtol=0)


def advised(steps, advice):
    """The steps with a further column: the executors that a rule would give to each stage."""
    return [
        step
        | {
            "stages": torch.cat(
                [step["stages"], torch.tensor(column, dtype=torch.float32)[:, None]], 1
            )
        }
        for step, column in zip(steps, advice, strict=True)
    ]


def test_advice_that_is_trusted_is_followed():
    head = make_head(hidden=32, advised=9)
    torch.nn.init.constant_(head.trust, 20.0)
    steps = [STEPS[0], STEPS[0], STEPS[0], STEPS[4]]
    steps = advised(steps, [[0, 6, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0, 0]])
    answer = head.answer(make_hidden(steps), together(steps))[0]
    assert answer.tolist() == [[1, 6], [0, 2], [-1, 1], [-1, 1]]


def test_advice_adds_what_it_is_trusted():
    head = make_head(advised=9)
    trust = float(head.trust[0].detach())
    plain = advised(STEPS[:1], [[0, 0, 0, 0]])
    steps = advised(STEPS[:1], [[0, 6, 0, 0]])
    hidden = make_hidden(steps)
    without, _ = head.distribution(hidden, together(plain))
    along, _ = head.distribution(hidden, together(steps))
    moved = (along - without).detach()
    assert float(moved[1] - moved[0]) == pytest.approx(trust, abs=1e-5)
    assert float(moved[0] - moved[3]) == pytest.approx(trust, abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([5.0, 1.0, 0.5], "3 schedulable stages, .* got 5 in row 0, step 0"),
        ([0.0, 1.0, -0.5], "weight must be finite and at least 0, got -0.5"),
        ([0.0, 1.0, math.nan], "weight must be finite and at least 0, got nan"),
        ([0.0, 1.0, math.inf], "weight must be finite and at least 0, got inf"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(answer, message):
    label = torch.tensor([[[[0.0, 1.0, 0.5], answer]]])
    with pytest.raises(ValueError, match=message):
        make_head().loss(make_hidden(STEPS[:1]), together(STEPS[:1]), label)


@pytest.mark.parametrize("greedy", [True, False])
def test_states_that_are_no_numbers_are_not_taken_for_waiting(greedy):
    values, ptr = make_hidden(STEPS)
    values[-3:] = math.nan
    with pytest.raises(ValueError, match=r"NaN\. Are the hidden states finite"):
        make_head().answer((values, ptr), together(STEPS), greedy=greedy)


def test_bfloat16_states_are_computed_in_float32_under_autocast_too():
    head, (values, ptr), observation = make_head(), make_hidden(STEPS), together(STEPS)
    values = values.bfloat16()
    label = head.answer((values, ptr), observation)
    expected = head.loss((values.float(), ptr), observation, label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.loss((values, ptr), observation, label)
        assert torch.equal(head.answer((values, ptr), observation), label)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_config_rebuilds_the_head():
    head = make_head()
    twin = Pointer(**json.loads(json.dumps(head.config())))
    assert (
        twin.config()
        == head.config()
        == {
            "width": WIDTH,
            "hidden": 8,
            "demand": DEMAND,
            "advised": None,
        }
    )
    twin.load_state_dict(head.state_dict())
    hidden, observation = make_hidden(STEPS), together(STEPS)
    one, two = (h.distribution(hidden, observation)[0] for h in (head, twin))
    assert torch.equal(one, two)


def test_the_head_is_found_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="netllm.heads", name="pointer")
    assert entry.load() is Pointer


@pytest.mark.parametrize("choice", [3, -2])
def test_a_label_that_is_no_schedulable_stage_is_refused(choice):
    label = torch.tensor([[[9, 9]], [[choice, 1]]])
    steps = [PADDING, STEPS[0]]
    with pytest.raises(ValueError, match=f"3 schedulable stages, .* got {choice} in row 1, step 0"):
        make_head().loss(make_hidden(steps), together(steps, batch=2), label)
    with pytest.raises(ValueError, match="a choice must name one of the step's 3 schedulable"):
        make_head().distribution(make_hidden(steps), together(steps, batch=2), label[..., 0])


def test_a_label_that_waits_where_that_is_forbidden_is_refused():
    label = torch.tensor([[[-1, 1], [-1, 1]]])
    steps = [STEPS[0], STEPS[2]]
    with pytest.raises(ValueError, match="where `can_wait` is false, got -1 in row 0, step 1"):
        make_head().loss(make_hidden(steps), together(steps), label)


def test_a_label_of_another_shape_is_refused(unchecked_shapes):
    label = torch.zeros(1, 6, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"must have shape \(1, 6, 2\), .* got \(1, 6\)"):
        make_head().loss(make_hidden(STEPS), together(STEPS), label)


def test_states_of_another_width_or_of_other_steps_are_refused():
    head, (values, ptr), observation = make_head(), make_hidden(STEPS), together(STEPS)
    with pytest.raises(ValueError, match=r"end with width 16, got shape \(.*, 12\)\. Was the head"):
        head.answer((values[:, :12], ptr), observation)
    with pytest.raises(ValueError, match="of each of the 6 steps, 21 in all, got 20 in 6 steps"):
        head.answer((values[1:], ptr), observation)
    with pytest.raises(ValueError, match="got 6 in 1 steps"):
        head.answer(make_hidden(STEPS[:1]), observation)


@pytest.mark.parametrize("name", ["stages", "schedulable", "committable", "executors", "can_wait"])
def test_a_missing_field_is_named(name):
    observation = together(STEPS)
    del observation[name]
    with pytest.raises(ValueError, match=f"must hold '{name}', got .* another task"):
        make_head().answer(make_hidden(STEPS), observation)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "can_wait",
            torch.ones(1, 5) > 0,
            r"'can_wait' must have shape \(batch, step\), .* \(1, 5",
        ),
        ("committable", torch.ones(2, 4), "and 6 entries, for that many steps 'stages' has, got"),
        (
            "stages",
            (torch.ones(15, 3), None),
            r"columns up to 4 \(demand: 4, advised: None\), got shape",
        ),
    ],
)
def test_fields_of_another_shape_are_refused(name, value, words):
    observation = together(STEPS)
    if name == "stages":
        value = value[0], observation["stages"][1]
    with pytest.raises(ValueError, match=words):
        make_head().answer(make_hidden(STEPS), observation | {name: value})


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`demand` and `advised` at least 0, got 16, 8, -1 and"):
        make_head(demand=-1)
