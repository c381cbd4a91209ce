"""What a run is planned to take is what passes keep, what files hold and what streams remember."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import LinearEncoder, LinearHead, SumEncoder, SumHead
from netllm_adapt import (
    AdaptedModel,
    BackboneSpec,
    Policy,
    Predictor,
    Recipe,
    add_lora,
    load_backbone,
)
from netllm_adapt.backbone import embedding_width
from netllm_adapt.llama.training import library_training
from netllm_adapt.model.base import BackboneInput
from netllm_adapt.planning.memory import Place, make_plan
from netllm_adapt.planning.remedies import remedies
from torch import Tensor
from transformers import LlamaConfig

ROWS, TOKENS = 2, 48
RECIPE = Recipe(batch=4, micro_batch=ROWS, rank=4, window=4, segment=TOKENS, dtype="float32")
WIDE = Place("cpu", 1 << 40)


def _model(plain: Any, spec: BackboneSpec, recipe: Recipe) -> AdaptedModel:
    width = embedding_width(plain)
    return AdaptedModel(
        backbone=add_lora(plain, rank=recipe.rank, targets=[*recipe.targets] or None),
        encoder=LinearEncoder(width),
        head=LinearHead(width),
        spec=spec,
        window=recipe.window,
        segment=recipe.segment,
    )


def _spec(name: str, recipe: Recipe) -> BackboneSpec:
    return BackboneSpec(name, layers=recipe.layers, dtype=recipe.dtype, quantise=recipe.quantise)


def _empty(name: str, recipe: Recipe) -> AdaptedModel:
    spec = _spec(name, recipe)
    with torch.device("meta"):
        return _model(spec.empty(), spec, recipe)


def _real(name: str, recipe: Recipe) -> AdaptedModel:
    spec = _spec(name, recipe)
    return _model(spec.load(), spec, recipe)


def _kept(model: AdaptedModel, tokens_of_row: int) -> int:
    """Bytes that torch keeps for the gradient of a pass, beside parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.backbone.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    blank: BackboneInput = model.blank_input(ROWS, tokens_of_row)
    tokens = torch.randn(blank.tokens.shape, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = blank._replace(tokens=tokens).through(model.backbone.train())
        assert hidden.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize(
    ("name", "kind"), [("llama", "cpu"), ("llama", "cuda"), ("gemma3", "cpu"), ("gpt2", "cpu")]
)
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_block_keeps_as_much_as_is_planned(name: str, kind: str, everywhere: bool) -> None:
    targets = ("c_attn", "c_fc") if name == "gpt2" else ("q_proj", "o_proj", "up_proj", "down_proj")
    full, recipe = f"tiny-random-{name}", replace(RECIPE, targets=targets if everywhere else ())
    plan = make_plan(partial(_empty, full), recipe, replace(WIDE, kind=kind))
    with library_training() if kind == "cuda" else nullcontext():
        models = [_real(full, replace(recipe, layers=n)) for n in (2, 3)]
        kept = [_kept(model, plan.tokens) for model in models]
    tokens = plan.rows * plan.tokens
    assert plan.bytes_per_token_and_layer * tokens == pytest.approx(kept[1] - kept[0], rel=0.03)


def test_a_llama_of_7_billion_is_planned_from_its_configuration(tmp_path: Path) -> None:
    LlamaConfig(
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32_000,
    ).save_pretrained(tmp_path)
    recipe = Recipe(rank=32)
    for name in (tmp_path, tmp_path / "config.json"):
        plan = make_plan(partial(_empty, str(name)), recipe, Place("cuda", 24 << 30))
        # Llama 2's paper: 6,738,415,616 with the LM head of 32,000 x 4,096.
        assert plan.learning["frozen weights"] == pytest.approx(2 * 6_607_343_616, rel=1e-6)
        low_rank = 32 * 2 * 32 * (4096 + 4096)
        ends = plan.learning["adapter, encoder, head"] - 4 * low_rank
        assert 0 < ends < 300_000
        assert plan.learning["AdamW's moments"] == 8 * low_rank + 2 * ends
        assert plan.blocks == 32
    # Forward and backward through frozen weights, 2 operations each per number and token.
    linear = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11_008)
    tokens = recipe.batch * plan.tokens
    assert 1 < plan.flops_per_step / (4 * linear * tokens) < 1.05


def test_a_stream_remembers_as_much_as_is_planned() -> None:
    name = "tiny-random-llama"
    plan = make_plan(partial(_empty, name), RECIPE, WIDE)
    model = _real(name, RECIPE)
    policy = Policy(model)
    policy.reset(0)
    for _ in range(40):
        policy.act({"x": np.zeros((1, 2), np.float32), "reward": np.ones(1, np.float32)})
    ring = policy._stream._ring  # type: ignore[union-attr]
    held = sum(keys.nbytes + values.nbytes for keys, values in ring._layers)
    assert held == plan.bytes_per_session


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_fewer_bits_take_as_much_as_is_planned(kind: Any) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is the extra `quantised`")
    name = "tiny-random-llama"
    recipe = replace(RECIPE, quantise=kind)
    plan = make_plan(partial(_empty, name), recipe, WIDE)
    real = load_backbone(name, dtype="float32", quantise=kind)
    held = sum(p.nbytes for p in real.parameters()) + sum(b.nbytes for b in real.buffers())
    assert plan.learning["frozen weights"] == pytest.approx(held, rel=0.1)
    whole = make_plan(partial(_empty, name), RECIPE, WIDE)
    assert plan.learning["frozen weights"] < whole.learning["frozen weights"]


def test_what_is_recomputed_takes_less() -> None:
    of = partial(make_plan, partial(_empty, "tiny-random-llama"), place=WIDE)
    plain, again = of(RECIPE), of(replace(RECIPE, gradient_checkpointing=True))
    assert again.bytes_per_token_and_layer < plain.bytes_per_token_and_layer / 4
    assert again.flops_per_step > plain.flops_per_step


def test_what_makes_a_run_fit_is_named() -> None:
    recipe = replace(RECIPE, micro_batch=4, segment=960)
    of = partial(make_plan, partial(_empty, "tiny-random-llama"))
    peak = of(recipe, WIDE).peak
    tight = partial(of, place=Place("cpu", peak - 1))
    found = remedies(tight, recipe, sessions=1, frozen=True)
    changes = [change for change, _ in found]
    assert {"gradient_checkpointing": True} in changes
    assert {"micro_batch": 2} in changes
    assert changes[-1] == {"layers": 2}
    assert all(plan.peak < peak for _, plan in found)
    assert not remedies(partial(of, place=Place("cpu", 1)), recipe, sessions=1, frozen=True)


def test_a_shared_run_passes_fewer_rows_on_each_device() -> None:
    of = partial(make_plan, partial(_empty, "tiny-random-llama"))
    assert of(RECIPE, replace(WIDE, count=4)).rows == 1
    assert of(RECIPE, WIDE).rows == ROWS


def test_a_predictor_whose_encoder_tells_no_tokens_is_not_planned() -> None:
    model = Predictor(
        backbone=add_lora(load_backbone("tiny-random", layers=1), rank=2),
        encoder=SumEncoder(64),
        head=SumHead(64),
        spec=BackboneSpec("tiny-random"),
    )
    with pytest.raises(ValueError, match="SumEncoder must have `tokens`"):
        model.longest_row()
