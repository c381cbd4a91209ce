import importlib.metadata
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_heads import Trajectory

WIDTH, HORIZON = 16, 4


def make_head(**settings) -> Trajectory:
    torch.manual_seed(0)
    return Trajectory(**{"width": WIDTH, "horizon": HORIZON, "hidden": 8} | settings)


def turning(head: Trajectory, offsets_deg: list[list[float]]) -> Trajectory:
    """The head, its last layer set so that it gives these offsets whatever the hidden state."""
    share = torch.tensor(offsets_deg, dtype=torch.float64) / head.limit_deg
    last = head.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_((share.atanh() * head.limit_deg / 30).flatten())
    return head


def observed(*last_deg: float, batch: int = 1) -> dict[str, torch.Tensor]:
    history = torch.zeros(batch, 10, 3, dtype=torch.float64)
    history[:, -1] = torch.tensor(last_deg, dtype=torch.float64)
    return {"viewport_deg": history}


def make_hidden(batch: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def test_an_untrained_head_holds_the_last_viewport():
    head = make_head(horizon=20, hidden=256)
    answer = head.answer(make_hidden(32), observed(3.0, -20.0, 170.0, batch=32))
    last = torch.tensor([3.0, -20.0, 170.0]).expand(32, 20, 3)
    torch.testing.assert_close(answer, last, atol=0.5, rtol=0)
    assert (answer - last).abs().mean() < 0.1


def test_offsets_are_an_mlp_of_the_normed_state_in_units_of_thirty_degrees_softly_bounded():
    head, hidden = make_head(), make_hidden(3)
    norm, _, first, _, _, last = head.layers
    torch.nn.init.normal_(last.weight)
    x = hidden.double()
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, False, keepdim=True) + norm.eps).sqrt()
    x = torch.nn.functional.gelu(x @ first.weight.double().T + first.bias.double())
    x = (x @ last.weight.double().T + last.bias.double()).view(3, HORIZON, 3)
    expected = 180 * (30 * x / 180).tanh()
    torch.testing.assert_close(head.offsets(hidden, {}).double(), expected, atol=1e-3, rtol=1e-4)
    assert expected.abs().max() > 20


def test_dropout_is_for_training_only():
    head, hidden = make_head(dropout=0.5), make_hidden(3)
    torch.nn.init.normal_(head.layers[-1].weight)
    assert not torch.equal(head.train().offsets(hidden, {}), head.offsets(hidden, {}))
    assert torch.equal(head.eval().offsets(hidden, {}), head.offsets(hidden, {}))
    with pytest.raises(ValueError, match=r"`dropout` must lie in \[0, 1\), got 1"):
        make_head(dropout=1)


def test_an_answer_goes_round_behind_the_viewer():
    head = turning(make_head(horizon=2), [[0.0, 0.0, 20.0], [-30.0, 0.0, -10.0]])
    answer = head.answer(make_hidden(), observed(-170.0, 0.0, 170.0))
    # 170 + 20 = 190, which is -170; -170 - 30 = -200, which is 160.
    expected = torch.tensor([[[-170.0, 0.0, -170.0], [160.0, 0.0, 160.0]]])
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=0)


def test_the_pitch_stops_at_the_poles():
    head = turning(make_head(horizon=2), [[0.0, 30.0, 0.0], [0.0, -170.0, 0.0]])
    answer = head.answer(make_hidden(), observed(0.0, 80.0, 0.0))
    torch.testing.assert_close(answer[0, :, 1], torch.tensor([90.0, -90.0]))


def test_the_loss_is_the_mean_of_the_wrapped_differences():
    head = turning(make_head(horizon=2), [[0.0, 0.0, 20.0], [-30.0, 0.0, -10.0]])
    label = torch.tensor([[[-170.0, 6.0, 175.0], [170.0, -3.0, 160.0]]], dtype=torch.float64)
    # By hand: step one |0|, |-6|, |-170 - 175 + 360| = 15; step two |160 - 170| = 10, 3, 0.
    loss = head.loss(make_hidden(), observed(-170.0, 0.0, 170.0), label)
    torch.testing.assert_close(loss, torch.tensor([34.0 / 6]), atol=1e-4, rtol=0)


def test_the_loss_is_the_error_of_the_answer():
    head = make_head()
    torch.nn.init.normal_(head.layers[-1].weight)
    hidden, observation = make_hidden(50), observed(20.0, 10.0, -175.0, batch=50)
    generator = torch.Generator().manual_seed(2)
    label = torch.rand(50, HORIZON, 3, generator=generator) * 360 - 180
    label[..., 1] /= 2
    answer = head.answer(hidden, observation)
    inside = (answer[..., 1].abs() < 90).all(-1)
    # The published metric: the least of |d|, |d + 360| and |d - 360|.
    d = answer - label
    expected = torch.stack([d.abs(), (d + 360).abs(), (d - 360).abs()]).amin(0).mean((1, 2))
    loss = head.loss(hidden, observation, label)
    torch.testing.assert_close(loss[inside], expected[inside], atol=1e-3, rtol=0)
    assert inside.sum() > 10


def test_full_turns_of_label_and_history_change_no_loss():
    head, hidden = make_head(), make_hidden()
    label = torch.zeros(1, HORIZON, 3)
    loss = head.loss(hidden, observed(10.0, 20.0, 170.0), label)
    turned = head.loss(hidden, observed(10.0, 20.0, 170.0 - 360), label + 360)
    torch.testing.assert_close(loss, turned, atol=1e-3, rtol=0)


@pytest.mark.parametrize("gap_deg", [0.0, 179.999, 180.0, -180.0, 180.001, 360.0])
def test_the_gradient_is_finite_where_differences_wrap(gap_deg):
    head, hidden = make_head(), make_hidden().requires_grad_()
    turning(head, [[0.0] * 3] * HORIZON)
    label = torch.full((1, HORIZON, 3), gap_deg)
    head.loss(hidden, observed(0.0, 0.0, 0.0), label).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in head.parameters())
    assert hidden.grad.isfinite().all()


def test_a_pitch_beyond_the_pole_learns_the_way_back():
    head = turning(make_head(horizon=1), [[0.0, 60.0, 0.0]])
    head.loss(make_hidden(), observed(0.0, 80.0, 0.0), torch.full((1, 1, 3), 85.0)).backward()
    assert head.layers[-1].bias.grad[1] > 0


def test_weights_say_what_a_step_counts_and_have_mean_one():
    label = torch.zeros(1, 2, 3)
    label[0, 0], label[0, 1] = 4.0, 10.0
    even = turning(make_head(horizon=2), [[0.0] * 3] * 2)
    skewed = turning(make_head(horizon=2, weights=[30, 10]), [[0.0] * 3] * 2)
    arguments = make_hidden(), observed(0.0, 0.0, 0.0), label
    torch.testing.assert_close(even.loss(*arguments), torch.tensor([7.0]))
    # By hand: weights 1.5 and 0.5, (1.5 · 4 + 0.5 · 10) / 2.
    torch.testing.assert_close(skewed.loss(*arguments), torch.tensor([5.5]))


def test_bfloat16_states_are_computed_in_float32_under_autocast_too():
    head, hidden = make_head(), make_hidden(2, dtype=torch.bfloat16)
    torch.nn.init.normal_(head.layers[-1].weight)
    observation, label = observed(1.0, 2.0, 3.0, batch=2), torch.zeros(2, HORIZON, 3)
    expected = head.answer(hidden.float(), observation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer, loss = head.answer(hidden, observation), head.loss(hidden, observation, label)
    assert answer.dtype == loss.dtype == torch.float32
    assert torch.equal(answer, expected)
    assert loss.shape == (2,)


def test_draws_and_greedy_answers_are_the_same():
    head, hidden, observation = make_head(), make_hidden(), observed(1.0, 2.0, 3.0)
    drawn = head.answer(hidden, observation, greedy=False, generator=torch.Generator())
    assert torch.equal(drawn, head.answer(hidden, observation))


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([0.0, 1e-6, 1.0, 1e3, 1e18]),
    steep=st.sampled_from([1e-4, 1.0, 1e4]),
    edge=st.sampled_from([-180.0, -90.0, 0.0, 90.0, 179.99999999999997, 180.0]),
)
def test_every_answer_is_a_valid_orientation(seed, size, steep, edge):
    head = make_head()
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(head.layers[-1].weight, std=steep, generator=generator)
    hidden = size * torch.randn(5, WIDTH, generator=generator)
    pitch = max(-90.0, min(edge, 90.0))
    answer = head.answer(hidden, observed(edge, pitch, edge, batch=5))
    assert answer.isfinite().all()
    assert (answer >= torch.tensor([-180.0, -90.0, -180.0])).all()
    assert (answer[..., 1] <= 90).all()
    assert (answer[..., [0, 2]] < 180).all()
    label = 180 * torch.randn(5, HORIZON, 3, generator=generator)
    loss = head.loss(hidden, observed(edge, pitch, edge, batch=5), label)
    assert ((loss >= 0) & (loss <= 180)).all()


def test_a_step_just_short_of_minus_half_a_turn_stays_below_half_a_turn():
    head = turning(make_head(horizon=1), [[-1e-6, 0.0, -1e-6]])
    answer = head.answer(make_hidden(), observed(-180.0, 0.0, -180.0))
    assert (answer[..., [0, 2]] < 180).all()


def test_no_offset_exceeds_the_limit():
    head = make_head(limit_deg=90.0)
    torch.nn.init.normal_(head.layers[-1].weight, std=100.0)
    offsets = head.offsets(make_hidden(100), {}).abs()
    assert offsets.max() == 90


def test_a_head_learns_a_steady_turn():
    head = make_head()
    observation = observed(0.0, 0.0, 170.0, batch=8)
    label = torch.zeros(8, HORIZON, 3)
    label[..., 2] = torch.tensor([175.0, -180.0, -175.0, -170.0])
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = head.loss(make_hidden(8), observation, label).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.5


def test_config_rebuilds_the_head():
    head = make_head(weights=[1, 2, 3, 4], limit_deg=120)
    twin = Trajectory(**json.loads(json.dumps(head.config())))
    assert twin.config() == head.config()
    twin.load_state_dict(head.state_dict())
    arguments = make_hidden(), observed(1.0, 2.0, 3.0)
    assert torch.equal(head.answer(*arguments), twin.answer(*arguments))
    label = torch.rand(1, HORIZON, 3)
    assert torch.equal(head.loss(*arguments, label), twin.loss(*arguments, label))


def test_the_head_is_found_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="netllm.heads", name="trajectory")
    assert entry.load() is Trajectory


def test_the_history_must_be_there():
    with pytest.raises(ValueError, match="must hold 'viewport_deg', got buffer_s"):
        make_head().answer(make_hidden(), {"buffer_s": torch.zeros(1)})


@pytest.mark.parametrize("shape", [(1, 3), (1, 0, 3), (1, 10, 2), (3, 10, 3)])
def test_a_history_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"'viewport_deg' must have shape \(1, history, 3\), got"):
        make_head().answer(make_hidden(), {"viewport_deg": torch.zeros(shape)})


@pytest.mark.parametrize("shape", [(1, 12), (1, 5, WIDTH)])
def test_states_of_another_shape_are_refused(shape, unchecked_shapes):
    with pytest.raises(ValueError, match=r"must have shape \(batch, 16\), got .* another backbone"):
        make_head().answer(torch.zeros(shape), observed(1.0, 2.0, 3.0))


@pytest.mark.parametrize("shape", [(1, 20, 3), (1, HORIZON), (2, HORIZON, 3)])
def test_a_label_of_another_shape_is_refused(shape, unchecked_shapes):
    with pytest.raises(ValueError, match=r"`label` must have shape \(1, 4, 3\), got .* horizon\?"):
        make_head().loss(make_hidden(), observed(1.0, 2.0, 3.0), torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizon": 0}, "must be at least 1, got 16, 0 and 8"),
        ({"weights": [1.0]}, "one weight per step, 4 in all, got 1"),
        ({"weights": [1.0, 1.0, 1.0, -1.0]}, r"none below 0 and one above it, got 1\.0"),
        ({"weights": [1.0, 1.0, 1.0, float("inf")]}, "must be finite"),
        ({"weights": [0.0] * 4}, "one above it"),
        ({"limit_deg": 0.0}, r"above 0 and at most at 180, got 0\.0"),
        ({"limit_deg": 200.0}, "got 200"),
        ({"limit_deg": float("nan")}, "got nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        make_head(**settings)


def crowd_of(*slopes, known=None, batch=1):
    """What a row sees of viewers who turn by so many degrees of yaw per step; it looks ahead."""
    steps = torch.arange(-9, HORIZON + 1)
    crowd = torch.zeros(batch, len(slopes), len(steps), 3)
    for number, slope in enumerate(slopes):
        crowd[:, number, :, 2] = slope * steps.clamp(min=0)
    known = torch.ones(batch, len(slopes), dtype=torch.bool) if known is None else known
    return {
        "viewport_deg": torch.zeros(batch, 10, 3),
        "crowd_deg": torch.remainder(crowd + 180, 360) - 180,
        "crowd_known": known,
    }


def test_a_share_of_other_viewers_turns_is_followed():
    head = make_head(viewers=2, ways=1)
    for layer in (head.follow.queries, head.follow.keys, head.follow.still):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(head.layers[-1].weight)
    answer = head.answer(make_hidden(3)[None], crowd_of(30.0, 60.0))
    share = torch.tensor(-1.0).sigmoid() / 3  # of two viewers and of standing still
    expected = share * (30 + 60) * torch.arange(1, HORIZON + 1)
    torch.testing.assert_close(answer[0, :, 2], torch.remainder(expected + 180, 360) - 180)
    assert not answer[0, :, :2].any()


def test_viewers_that_are_not_known_are_not_followed():
    head, hidden = make_head(viewers=2), make_hidden(6).view(2, 3, -1)
    known = torch.tensor([[True, False], [False, False]])
    one, other = (
        head.answer(hidden, crowd_of(5.0, slope, known=known, batch=2)) for slope in (0, 9)
    )
    assert torch.equal(one, other)
    alone = head.offsets(hidden, crowd_of(5.0, 5.0, known=known, batch=2))[1]
    own = make_head()
    own.layers.load_state_dict(head.layers.state_dict())
    torch.testing.assert_close(alone, own.offsets(hidden[1:, -1], {})[0])


def test_a_head_learns_whom_to_follow():
    generator = torch.Generator().manual_seed(0)
    head = make_head(viewers=3, dropout=0.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    mark = torch.randn(head.width, generator=generator)
    for _ in range(300):
        slopes = torch.randn(64, 3, generator=generator) * 5
        leader = torch.randint(3, (64,), generator=generator)
        hidden = 0.1 * torch.randn(64, 4, head.width, generator=generator)
        hidden[torch.arange(64), leader] += mark
        observation = crowd_of(0.0, 0.0, 0.0, batch=64)
        steps = torch.arange(-9, HORIZON + 1).clamp(min=0)
        observation["crowd_deg"][..., 2] = slopes[..., None] * steps
        label = observation["crowd_deg"][torch.arange(64), leader, 10:]
        loss = head.loss(hidden, observation, label).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held = label.abs().mean()
    assert loss < 0.3 * held


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crowd_deg": torch.zeros(1, 2, 10, 3)}, "must have shape"),
        ({"crowd_known": torch.ones(1, 3)}, "must have shape"),
    ],
)
def test_a_crowd_of_another_shape_is_refused(change, said):
    head = make_head(viewers=2)
    with pytest.raises(ValueError, match=said):
        head.answer(make_hidden(3)[None], crowd_of(1.0, 2.0) | change)
    with pytest.raises(ValueError, match="must hold 'crowd_deg'"):
        head.answer(make_hidden(3)[None], observed(0.0, 0.0, 0.0))
