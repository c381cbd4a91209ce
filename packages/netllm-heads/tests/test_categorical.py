import importlib.metadata
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_heads import NO_LABEL, Categorical

WIDTH, ANSWERS = 16, 6


def make_head(**settings) -> Categorical:
    torch.manual_seed(0)
    return Categorical(width=WIDTH, answers=ANSWERS, **settings)


def make_hidden(batch: int = 2, step: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, step, 3, WIDTH, generator=generator).to(dtype)


def test_logits_are_a_linear_map_of_the_normed_last_token():
    head, hidden = make_head(), make_hidden()
    norm, linear = head.layers
    last = hidden[:, :, 2].double()
    normed = (last - last.mean(-1, keepdim=True)) / (
        last.var(-1, False, keepdim=True) + 1e-5
    ).sqrt()
    expected = normed @ linear.weight.double().T + linear.bias.double()
    torch.testing.assert_close(head.distribution(hidden, {}).double(), expected)
    assert norm.weight.shape == (WIDTH,)


def test_a_hidden_layer_is_there_when_asked_for():
    head = make_head(hidden=7)
    shapes = [tuple(weight.shape) for name, weight in head.named_parameters() if "weight" in name]
    assert shapes == [(WIDTH,), (7, WIDTH), (ANSWERS, 7)]
    assert head.distribution(make_hidden(), {}).shape == (2, 5, ANSWERS)


@pytest.mark.parametrize("greedy", [True, False])
def test_states_that_are_no_numbers_have_no_answer(greedy):
    hidden = make_hidden()
    hidden[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"NaN\. Are the hidden states finite"):
        make_head().answer(hidden, {}, greedy=greedy)


@pytest.mark.parametrize("value", [-1.0, torch.nan, torch.inf])
def test_soft_labels_that_are_no_probabilities_are_refused(value):
    label = torch.full((2, 5, ANSWERS), 1 / ANSWERS)
    label[0, 3, 1] = value
    with pytest.raises(ValueError, match=f"finite and at least 0, got {value}"):
        make_head().loss(make_hidden(), {}, label)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = make_head().distribution(make_hidden(dtype=torch.bfloat16), {})
    assert logits.dtype == torch.float32


def test_bfloat16_states_give_float32_logits():
    logits = make_head().distribution(make_hidden(dtype=torch.bfloat16), {})
    assert logits.dtype == torch.float32


def test_loss_is_minus_the_log_of_the_labels_probability():
    head, hidden = make_head(), make_hidden()
    label = torch.arange(10).view(2, 5) % ANSWERS
    loss = head.loss(hidden, {}, label)
    probability = head.distribution(hidden, {}).softmax(-1)
    for row in range(2):
        for step in range(5):
            expected = -math.log(probability[row, step, label[row, step]].item())
            assert loss[row, step].item() == pytest.approx(expected, rel=1e-5)


def test_loss_with_soft_labels_is_the_cross_entropy():
    head, hidden = make_head(), make_hidden()
    label = torch.rand(2, 5, ANSWERS, dtype=torch.float64).softmax(-1)
    logits = head.distribution(hidden, {})
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), label.float().flatten(0, 1), reduction="none"
    )
    torch.testing.assert_close(head.loss(hidden, {}, label).flatten(), expected)


def test_soft_labels_of_one_answer_equal_the_integer_label():
    head, hidden = make_head(), make_hidden()
    label = torch.arange(10).view(2, 5) % ANSWERS
    soft = torch.nn.functional.one_hot(label, ANSWERS).float()
    assert torch.equal(head.loss(hidden, {}, label), head.loss(hidden, {}, soft))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_invalid_answers_have_probability_zero_and_are_never_given(seed, greedy):
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(3, 4, ANSWERS, generator=generator) < 0.4
    valid[..., seed % ANSWERS] = True
    head = make_head(mask="valid")
    hidden = 1e3 * torch.randn(3, 4, 2, WIDTH, generator=generator)
    probability = head.distribution(hidden, {"valid": valid}).softmax(-1)
    assert (probability[~valid] == 0).all()
    torch.testing.assert_close(probability.sum(-1), torch.ones(3, 4))
    answer = head.answer(hidden, {"valid": valid}, greedy=greedy, generator=generator)
    assert valid.gather(-1, answer[..., None]).all()


def test_the_greedy_answer_is_the_most_probable_valid_one():
    head, hidden = make_head(mask="valid"), make_hidden()
    valid = torch.ones(2, 5, ANSWERS, dtype=torch.bool)
    best = head.answer(hidden, {"valid": valid})
    assert torch.equal(best, head.distribution(hidden, {"valid": valid}).argmax(-1))
    second = head.answer(hidden, {"valid": valid.scatter(-1, best[..., None], False)})
    assert torch.equal(second, head.distribution(hidden, {"valid": valid}).topk(2).indices[..., 1])


def test_sampled_answers_follow_the_distribution():
    head = make_head()
    hidden = make_hidden(1, 1).expand(20_000, 1, 3, WIDTH)
    generator = torch.Generator().manual_seed(3)
    drawn = head.answer(hidden, {}, greedy=False, generator=generator).flatten()
    share = torch.bincount(drawn, minlength=ANSWERS) / len(drawn)
    expected = head.distribution(hidden[:1], {}).softmax(-1)[0, 0]
    # Four standard deviations of a share of 20,000 draws are at most 0.0142.
    torch.testing.assert_close(share, expected, atol=0.0142, rtol=0)


def test_sampled_answers_repeat_with_the_generators_seed():
    head, hidden = make_head(), make_hidden(8, 8)
    first, second, other = (
        head.answer(hidden, {}, greedy=False, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_masked_losses_have_finite_gradients():
    head, hidden = make_head(mask="valid"), make_hidden().requires_grad_()
    valid = torch.zeros(2, 5, ANSWERS, dtype=torch.bool)
    valid[..., :2] = True
    head.loss(hidden, {"valid": valid}, torch.ones(2, 5, dtype=torch.int64)).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in head.parameters())
    assert hidden.grad[:, :, -1].abs().sum() > 0
    assert (hidden.grad[:, :, :-1] == 0).all()


@pytest.mark.parametrize("soft", [False, True])
def test_padded_steps_need_neither_label_nor_mask(soft):
    head, hidden = make_head(mask="valid"), make_hidden(1, 2).requires_grad_()
    valid = torch.tensor([[[True] * ANSWERS, [False] * ANSWERS]])
    label = torch.tensor([[2, NO_LABEL]])
    if soft:
        label = torch.tensor([[[0.0, 0, 1, 0, 0, 0], [0.0] * ANSWERS]])
    loss = head.loss(hidden, {"valid": valid}, label)
    assert loss[0, 0] > 0
    assert loss[0, 1] == 0
    loss.sum().backward()
    assert hidden.grad.isfinite().all()
    assert (hidden.grad[0, 1] == 0).all()


@pytest.mark.parametrize("soft", [False, True])
def test_states_without_steps_are_answered_as_steps_of_one_token(soft):
    head, state = make_head(mask="valid"), make_hidden(8, 1)[:, 0, 0]
    valid = torch.ones(8, ANSWERS, dtype=torch.bool)
    valid[:, 4:] = False
    label = torch.arange(8) % 4
    if soft:
        label = torch.nn.functional.one_hot(label, ANSWERS).float()

    def outputs(state, valid, label):
        seen = {"valid": valid}
        draw = torch.Generator().manual_seed(0)
        return (
            head.distribution(state, seen),
            head.answer(state, seen),
            head.answer(state, seen, greedy=False, generator=draw),
            head.loss(state, seen, label),
        )

    steps = outputs(state[:, None, None], valid[:, None], label[:, None])
    for alone, step in zip(outputs(state, valid, label), steps, strict=True):
        assert len(alone) == 8
        torch.testing.assert_close(alone[:, None], step)


def test_errors_of_states_without_steps_name_the_row_alone():
    head, state = make_head(mask="valid"), torch.zeros(3, WIDTH)
    valid = torch.ones(3, ANSWERS, dtype=torch.bool)
    valid[2] = False
    with pytest.raises(ValueError, match=r"got none in row 2\. Mask only"):
        head.answer(state, {"valid": valid})
    with pytest.raises(ValueError, match=r"got 1 in row 2, which"):
        head.loss(state, {"valid": valid}, torch.ones(3, dtype=torch.int64))


def test_config_rebuilds_the_head():
    head = make_head(mask="valid", hidden=7)
    twin = Categorical(**json.loads(json.dumps(head.config())))
    twin.load_state_dict(head.state_dict())
    valid = {"valid": torch.ones(2, 5, ANSWERS, dtype=torch.bool)}
    assert torch.equal(
        head.distribution(make_hidden(), valid), twin.distribution(make_hidden(), valid)
    )


def test_the_head_is_found_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="netllm.heads", name="categorical")
    assert entry.load() is Categorical


def test_states_of_another_width_are_refused():
    with pytest.raises(
        ValueError,
        match=r"token, 16\) or \(batch, 16\), got \(2, 5, 3, 12\)\. Was the head built for another",
    ):
        make_head().answer(torch.zeros(2, 5, 3, 12), {})


def test_a_mask_without_valid_answer_is_refused():
    valid = torch.ones(2, 5, ANSWERS, dtype=torch.bool)
    valid[1, 3] = False
    with pytest.raises(ValueError, match=r"`valid` must leave .* got none in row 1, step 3"):
        make_head(mask="valid").answer(make_hidden(), {"valid": valid})


def test_a_missing_mask_is_refused():
    with pytest.raises(ValueError, match="must hold the mask 'valid', got buffer_s"):
        make_head(mask="valid").answer(make_hidden(), {"buffer_s": torch.zeros(2, 5)})


def test_a_mask_for_another_number_of_answers_is_refused():
    valid = torch.ones(2, 5, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"must have shape \(2, 5, 6\), got \(2, 5, 3\)"):
        make_head(mask="valid").answer(make_hidden(), {"valid": valid})


@pytest.mark.parametrize("answer", [-1, ANSWERS])
def test_a_label_outside_the_answers_is_refused(answer):
    label = torch.full((2, 5), answer)
    with pytest.raises(ValueError, match=f"between 0 and 5, or be -100 for none, got {answer}"):
        make_head().loss(make_hidden(), {}, label)


def test_a_forbidden_label_is_refused():
    valid = torch.ones(2, 5, ANSWERS, dtype=torch.bool)
    valid[1, 4, 0] = False
    with pytest.raises(ValueError, match="got 0 in row 1, step 4, which `valid` forbids"):
        make_head(mask="valid").loss(
            make_hidden(), {"valid": valid}, torch.zeros(2, 5, dtype=torch.int64)
        )


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.zeros(2, 5), r"float labels must have shape \(2, 5, 6\), got \(2, 5\)"),
        (torch.zeros(2, 5, 6, dtype=torch.int64), r"must have shape \(2, 5\), got \(2, 5, 6\)"),
    ],
)
def test_a_label_of_another_shape_is_refused(label, words):
    with pytest.raises(ValueError, match=words):
        make_head().loss(make_hidden(), {}, label)
