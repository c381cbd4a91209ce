"""Gradient checkpointing: the same gradients from fewer kept activations."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from adapt_parts import (
    LinearEncoder,
    LinearHead,
    SumEncoder,
    SumHead,
    make_episode,
)
from netllm_adapt import (
    AdaptedModel,
    BackboneSpec,
    Examples,
    Predictor,
    Recipe,
    add_lora,
    fit,
    load_backbone,
)
from netllm_adapt.llama.training import library_training, uncovered_training
from netllm_adapt.training.gradient_checkpointing import recomputing
from netllm_adapt.training.run_folder import read_log
from torch import Tensor

EPISODES = [make_episode(16, seed) for seed in range(4)]


def make(architecture: str, *, dropout: float = 0.0) -> AdaptedModel:
    spec = BackboneSpec(f"tiny-random-{architecture}", dtype="float32")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = add_lora(load_backbone(spec.name, dtype=spec.dtype), rank=2, dropout=dropout)
        encoder, head = LinearEncoder(64), LinearHead(64)
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return AdaptedModel(
        backbone=backbone, encoder=encoder, head=head, spec=spec, window=4, segment=48
    )


def learned(model: AdaptedModel, way: AbstractContextManager[Any]) -> tuple[list[Tensor], int]:
    """The gradients, and how many bytes of activations were kept for them."""
    rows = model.rows(EPISODES)
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if not isinstance(x, torch.nn.Parameter):
            storage = x.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    model.train().zero_grad()
    with way, torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # of dropout
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = model(rows.batch(range(len(rows)))).sum()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], sum(kept.values())


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize(
    ("architecture", "lean"), [("llama", True), ("llama", False), ("gpt2", False), ("opt", False)]
)
def test_gradients_are_the_same_and_half_as_much_is_kept(
    architecture: str, lean: bool, dropout: float
) -> None:
    model = make(architecture, dropout=dropout)
    with nullcontext() if lean else library_training():
        assert (uncovered_training(model.backbone) is None) == lean
        usual, much = learned(model, nullcontext())
        with recomputing(model.backbone):
            assert (uncovered_training(model.backbone) is None) == lean
        again, little = learned(model, recomputing(model.backbone))
        after, _ = learned(model, nullcontext())
    assert little < 0.5 * much
    for one, other, third in zip(usual, again, after, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(third, one, atol=1e-5, rtol=1e-4)


def test_a_recipe_asks_for_it(registered_parts: None, tmp_path: Path) -> None:
    losses = []
    for again in (False, True):
        out = tmp_path / str(again)
        recipe = Recipe(steps=3, batch=2, log_every=1, gradient_checkpointing=again)
        fit(make("llama"), EPISODES, recipe=recipe, out=out)
        losses.append([line["loss"] for line in read_log(out) if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_backbone_without_it_is_refused_before_it_learns(
    registered_parts: None, tmp_path: Path
) -> None:
    model = make("llama")
    plain: Any = model.backbone
    plain.get_base_model().supports_gradient_checkpointing = False
    with pytest.raises(ValueError, match="`gradient_checkpointing` must be False for 'tiny"):
        fit(model, EPISODES, recipe=Recipe(gradient_checkpointing=True), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_predictors_learn_with_it_too(registered_parts: None, tmp_path: Path) -> None:
    adapted = make("llama")
    model = Predictor(
        backbone=adapted.backbone, encoder=SumEncoder(64), head=SumHead(64), spec=adapted.spec
    )
    numbers = torch.randn(8, 3).numpy()
    examples = Examples({"numbers": numbers}, numbers.sum(1))
    recipe = Recipe(steps=2, batch=4, gradient_checkpointing=True, log_every=1)
    fit(model, examples, recipe=recipe, out=tmp_path)
    assert len(read_log(tmp_path)) >= 2
