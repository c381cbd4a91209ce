"""Supervised tasks: the shared loop learns them, one pass answers them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import SumEncoder, SumHead
from netllm_adapt import (
    Adapted,
    AdaptedModel,
    BackboneSpec,
    Examples,
    Forecast,
    Predictor,
    Recipe,
    SessionError,
    add_lora,
    fit,
    load_backbone,
)
from netllm_adapt.llama.training import library_training
from netllm_adapt.lora import adapters
from netllm_adapt.training.run_folder import read_log
from torch import Tensor

pytestmark = pytest.mark.usefixtures("registered_parts")
NUMBERS = np.random.default_rng(0).uniform(-1, 1, (256, 3))
EXAMPLES = Examples({"numbers": NUMBERS}, NUMBERS.sum(axis=1))
RECIPE = Recipe(steps=80, batch=32, micro_batch=32, learning_rate=1e-2, warmup=5)


def make_model(name: str = "tiny-random-llama") -> Predictor:
    spec = BackboneSpec(name, layers=2, dtype="float32")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Predictor(
            backbone=add_lora(load_backbone(name, layers=2, dtype="float32"), rank=2),
            encoder=SumEncoder(64),
            head=SumHead(64),
            spec=spec,
        )


def error(model: Predictor) -> dict[str, float]:
    answers = Forecast(model).act({"numbers": NUMBERS})
    return {"error": float(np.abs(answers - NUMBERS.sum(axis=1)).mean())}


class TwoAnswers(SumHead):
    """A number's sign."""

    def distribution(self, hidden: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        number = self.answer(hidden, observation)
        return torch.stack([number, -number], -1)


def test_a_forecast_may_be_of_probabilities() -> None:
    model = make_model()
    model.head = TwoAnswers(64)
    answers = Forecast(model, probabilities=True).act({"numbers": NUMBERS})
    assert answers.sum(axis=1) == pytest.approx(np.ones(len(NUMBERS)))
    most = Forecast(model).act({"numbers": NUMBERS})
    assert ((answers[:, 0] > 0.5) == (most > 0)).all()


def test_the_shared_loop_learns_a_sum(tmp_path: Path) -> None:
    before = error(make_model())["error"]
    model = fit(
        make_model(),
        EXAMPLES,
        recipe=RECIPE,
        out=tmp_path,
        validate=error,
        metric="error",
        maximise=False,
    )
    assert error(model)["error"] < 0.2 * before
    figures = [line["error"] for line in read_log(tmp_path) if "error" in line]
    assert model.about["validation error"] == min(figures)


def test_a_loop_of_ones_own_learns_the_sum_through_the_lean_pass() -> None:
    model = make_model().train()
    numbers = torch.tensor(NUMBERS, dtype=torch.float32)
    observation, label = {"numbers": numbers}, numbers.sum(dim=1)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    before = error(model)["error"]
    for _ in range(40):
        hidden = model.hidden_of(observation)
        loss = model.head.loss(hidden, observation, label).mean()
        assert "NormOfSumBackward" in operations(hidden)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert error(model)["error"] < 0.2 * before
    with library_training():
        plain = model.hidden_of(observation)
    assert "NormOfSumBackward" not in operations(plain)
    torch.testing.assert_close(plain, model.hidden_of(observation), rtol=1e-4, atol=1e-4)


def operations(tensor: Tensor) -> set[str]:
    """The names of the operations that autograd goes back through."""
    waiting, names = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in names:
            names.add(node)
            waiting += [before for before, _ in node.next_functions]
    return {node.name() for node in names}


def test_without_validation_the_last_checkpoint_is_the_best(tmp_path: Path) -> None:
    recipe = Recipe(steps=4, batch=8, warmup=1, validate_every=2)
    model = fit(make_model(), EXAMPLES, recipe=recipe, out=tmp_path)
    assert model.about["step"] == 4


def test_a_checkpoint_gives_the_same_answers(tmp_path: Path) -> None:
    model = make_model()
    again = Predictor.from_pretrained(model.save_pretrained(tmp_path / "checkpoint"))
    assert type(Adapted.from_pretrained(tmp_path / "checkpoint")) is Predictor
    one, two = (Forecast(m).act({"numbers": NUMBERS}) for m in (model, again))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="must hold AdaptedModel, got Predictor"):
        AdaptedModel.from_pretrained(tmp_path / "checkpoint")


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_lean_pass_gives_the_librarys_answers(kind: str) -> None:
    model = make_model(f"tiny-random-{kind}")
    lean, library = (Forecast(model, lean=lean).act({"numbers": NUMBERS}) for lean in (True, False))
    np.testing.assert_allclose(lean, library, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inside", [True, False])
def test_rows_that_mix_adapters_go_through_the_librarys_pass(inside: bool) -> None:
    model = make_model().eval()
    names, row = ["default", "other"], {"numbers": NUMBERS[:1].repeat(2, axis=0)}
    add_lora(model.backbone, rank=3, name="other", seed=5)
    for number, name in enumerate(names):
        for parameter_name, parameter in model.backbone.named_parameters():
            if f"lora_B.{name}" in parameter_name:
                parameter.data.fill_(0.1 + number)
    early = Forecast(model)
    early.act(row)
    with adapters(model.backbone, names):
        mixed = (Forecast(model) if inside else early).act(row)
        with pytest.raises(ValueError, match=r"`lean` must be None or False .*`adapters`"):
            Forecast(model, lean=True)
    for number, name in enumerate(names):
        model.backbone.set_adapter(name)
        alone = Forecast(model, lean=False).act(row)
        np.testing.assert_allclose(mixed[number], alone[number], rtol=1e-4, atol=1e-5)
    assert abs(mixed[0] - mixed[1]) > 1e-3


def test_a_batch_may_grow_and_shrink() -> None:
    policy = Forecast(make_model())
    whole = policy.act({"numbers": NUMBERS})
    pieces = [policy.act({"numbers": NUMBERS[i : i + 60]}) for i in range(0, 256, 60)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-4, atol=1e-4)


def test_a_backbone_beyond_the_lean_pass_is_named() -> None:
    with pytest.raises(ValueError, match="a GPT2Model"):
        Forecast(make_model("tiny-random-gpt2"), lean=True)


def test_a_row_that_is_not_finite_is_named() -> None:
    numbers = NUMBERS.copy()
    numbers[7] = np.nan
    with pytest.raises(SessionError, match=r"Session 7 .*`numbers` must hold finite") as error:
        Forecast(make_model()).act({"numbers": numbers})
    assert (error.value.row, error.value.field) == (7, "numbers")


def test_fields_that_are_not_numbers_are_left_alone() -> None:
    names = np.array(["a"] * len(NUMBERS))
    assert Forecast(make_model()).act({"numbers": NUMBERS, "name": names}).shape == (256,)


class MaskEncoder(SumEncoder):
    """Reads the numbers that a mask shows."""

    def observe(self, observation: Mapping[str, Tensor]) -> Tensor:
        assert observation["shown"].dtype == torch.bool
        return super().observe({"numbers": observation["numbers"] * observation["shown"]})


@pytest.mark.parametrize("lean", [True, False])
def test_fields_of_truth_values_reach_the_encoder(lean: bool) -> None:
    model, shown = make_model(), NUMBERS > 0
    wanted = Forecast(model, lean=lean).act({"numbers": NUMBERS * shown})
    masking = MaskEncoder(64)
    masking.load_state_dict(model.encoder.state_dict())
    model.encoder = masking
    got = Forecast(model, lean=lean).act({"numbers": NUMBERS, "shown": shown})
    np.testing.assert_array_equal(got, wanted)


def test_examples_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match=r"above 0, got \{.numbers.: 256\} and 3 labels"):
        Examples({"numbers": NUMBERS}, np.zeros(3))
    with pytest.raises(ValueError, match="above 0"):
        Examples({}, np.zeros(0))


@pytest.mark.parametrize(
    ("name", "frozen"), [("scratch-32x2", ()), ("scratch-mlp-32x2", ("q_proj", "k_proj"))]
)
def test_a_network_from_scratch_is_trained_whole_and_kept_whole(
    tmp_path: Path, name: str, frozen: tuple[str, ...]
) -> None:
    spec = BackboneSpec(name, dtype="float32", seed=3)
    backbone = load_backbone(spec.name, dtype="float32", seed=3)
    model = Predictor(backbone=backbone, encoder=SumEncoder(32), head=SumHead(32), spec=spec)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    recipe = Recipe(steps=3, batch=8, warmup=1, validate_every=3)
    best = fit(model, EXAMPLES, recipe=recipe, out=tmp_path)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if not any(p in n for p in ("embed_tokens", *frozen))}
    for name, value in best.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_a_network_without_attention_sees_the_mean_of_what_came_before() -> None:
    backbone: Any = load_backbone("scratch-mlp-32x1", dtype="float32")
    tokens = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    mixed = tokens[:, [2, 0, 4, 1, 3, 5]]
    with torch.no_grad():
        last = [backbone(inputs_embeds=some).last_hidden_state[:, -1] for some in (tokens, mixed)]
    torch.testing.assert_close(*last)


@pytest.mark.parametrize("name", ["scratch-30x2", "scratch-32", "scratch-32x0", "scratch-gru-32x2"])
def test_a_scratch_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="scratch-WIDTHxLAYERS"):
        load_backbone(name)
