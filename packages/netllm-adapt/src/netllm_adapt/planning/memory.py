"""What adapting a backbone takes in memory and in operations, before anything is loaded.

All of a model but its numbers is built, on torch's meta device, and counted. In bytes:

- frozen weights: numbers x (8 in float64, 4 in float32, 2 in half precision); of linear layers in
  fewer bits 1 a number (int8) or 0.5 (nf4), and their scales;
- copies of frozen weights: on CPUs, as oneDNN reads them, see `lora.frozen_weights`;
- adapter, encoder and head: 4 a number, once more for gradients, twice for AdamW's moments, and
  once for the running average;
- activations: rows x tokens x (what comes in and goes out + layers x bytes per token and layer).
  The last is the difference between one pass of three blocks and one of two, in which every storage
  that lives at the peak is counted, see `traced_pass`. On CPUs a fifth more, which the C library's
  allocator holds between them;
- libraries: what the process holds before, and what torch, accelerate and a simulator add;
- loading, of random weights: all blocks in float32, in which they are drawn;
- while it decides: weights in the layout of the lean pass (Llama types on CPUs), and for each
  session 2 x layers x width of the keys x tokens of the window.

Operations are counted in the same two passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

from torch import Tensor, nn

from netllm_adapt.backbone import embedding_width
from netllm_adapt.backbone.load import Packed, draws, keep_blocks
from netllm_adapt.llama.packed_weights import plain_of, uncovered
from netllm_adapt.llama.training import uncovered_training
from netllm_adapt.lora import LoraLinear
from netllm_adapt.lora.frozen_weights import bytes_of_copies, has_onednn
from netllm_adapt.model.base import Adapted
from netllm_adapt.model.decider import AdaptedModel
from netllm_adapt.planning.traced_pass import PassCost, traced_pass
from netllm_adapt.stream.key_value_ring import slots_for
from netllm_adapt.training.recipe import Recipe

Build = Callable[[Recipe], Adapted]
"""Makes the model of a recipe, its backbone on torch's meta device."""
_FEW = 3
"""Blocks of the larger pass; in the last one only some tokens ask, so one alone is no measure."""
_ENDS = 16
"""Bytes per token and number of the width for what encoder and head keep, in float32."""
_ALLOCATOR = 1.2
"""Of activations on CPUs; measured by benchmarks/plan.py."""
_LATER = 128 << 20
"""Bytes that code takes of the main memory once it runs; measured by benchmarks/plan.py."""
_NF4 = 1 / 2 + 1 / 64 + 4 / (64 * 256)
"""Bytes a number: 4 bits, a scale in 8 bits for 64 numbers, and one of these in 32 for 256."""


@dataclass(frozen=True)
class Place:
    """Where a model is to learn."""

    kind: str
    """`cpu`, `cuda` or `mps`."""
    bytes: int
    """Memory that it has."""
    overhead: int = 0
    """What is taken already, in bytes, such as by libraries."""
    count: int = 1
    """Devices that share a run; each holds the whole model."""


@dataclass(frozen=True)
class Plan:
    """Bytes by part, of the device that learns."""

    loading: dict[str, int]
    """Before training; of weights in files no more than they take later."""
    learning: dict[str, int]
    """At the peak of a training step."""
    validating: dict[str, int]
    """While the model decides between training steps."""
    deciding: dict[str, int]
    """One session of the adapted model, after training."""
    rows: int
    """That pass at once."""
    tokens: int
    """Of a row."""
    bytes_per_token_and_layer: int
    """Of activations."""
    bytes_per_session: int
    """Keys and values."""
    flops_per_step: int
    """Of one optimiser step, on all devices together."""
    blocks: int
    """Of the backbone."""
    available: int
    """Bytes that the device has."""

    @property
    def peak(self) -> int:
        """The most that a run takes, in bytes."""
        phases = self.loading, self.learning, self.validating
        return max(sum(phase.values()) for phase in phases)

    @property
    def fits(self) -> bool:
        """Whether that is no more than there is."""
        return self.peak <= self.available


def make_plan(
    build: Build,
    recipe: Recipe,
    place: Place,
    *,
    steps: int | None = None,
    sessions: int = 1,
) -> Plan:
    """What a run takes.

    Args:
        build: makes its model.
        recipe: how it learns.
        place: where.
        steps: of its longest episode, where the model decides step after step; None for as many as
            fill the longest row that the recipe allows.
        sessions: that decide side by side while it is validated.
    """
    model = build(recipe)
    rows = max(1, min(recipe.micro_batch, recipe.batch // place.count))
    tokens = model.longest_row(steps)
    packed, session = _packed_bytes(model, place.kind), _session_bytes(model)
    weights = _weights(model, recipe, place, rows * tokens)
    trained, average = weights["adapter, encoder, head"], weights["running average"]
    deciding = {"copies of them to decide": packed, "keys and values": sessions * session}
    alone = {n: weights[n] for n in ("libraries", "frozen weights", "adapter, encoder, head")}
    drawn = _drawn_bytes(build, recipe) if draws(model.spec.name) else 0
    blocks, width, unpacked = _blocks(model), embedding_width(model.backbone), _unpacked(model)
    first, further, layer = _passes(model, recipe, rows, tokens, place.kind)
    lasting = first.bytes + further * layer.bytes + rows * tokens * width * _ENDS
    activations = round(lasting * (_ALLOCATOR if place.kind == "cpu" else 1)) + unpacked
    return Plan(
        loading={"libraries": place.overhead, "weights in float32": drawn},
        learning=weights | {"gradients": trained, "activations": activations},
        validating=weights | deciding | {"running average": 2 * average},
        deciding=alone | deciding | {"keys and values": session},
        rows=rows,
        tokens=tokens,
        bytes_per_token_and_layer=round(layer.bytes / (rows * tokens)),
        bytes_per_session=session,
        flops_per_step=round((first.flops + further * layer.flops) * recipe.batch / rows),
        blocks=blocks,
        available=place.bytes,
    )


def _weights(model: Adapted, recipe: Recipe, place: Place, rows: int) -> dict[str, int]:
    """Bytes of what lasts while a model learns and is validated."""
    trained = _bytes(p for p in model.parameters() if p.requires_grad)
    return {
        "libraries": place.overhead + (0 if place.kind == "cuda" else _LATER),
        "frozen weights": _frozen_bytes(model, recipe.quantise),
        "copies of them to learn": _copies_bytes(model, recipe, rows, place.kind),
        "adapter, encoder, head": trained,
        "AdamW's moments": 2 * trained,
        "running average": trained if recipe.average else 0,
    }


def _passes(
    model: Adapted, recipe: Recipe, rows: int, tokens: int, kind: str
) -> tuple[PassCost, int, PassCost]:
    """The pass of a few blocks, how many more there are, and what each adds; cuts the model."""
    plain, given = plain_of(model.backbone), model.blank_input(rows, tokens)
    trace = partial(
        traced_pass,
        model.backbone,
        given,
        on_cpu=kind == "cpu",
        again=recipe.gradient_checkpointing,
    )
    blocks = _blocks(model)
    if blocks > _FEW:
        keep_blocks(plain, _FEW)
        few = trace()
        keep_blocks(plain, _FEW - 1)
        fewer = trace()
        further = PassCost(few.bytes - fewer.bytes, few.flops - fewer.flops)
        return few, blocks - _FEW, further
    return trace(), 0, PassCost(0, 0)


def _blocks(model: Adapted) -> int:
    config: Any = plain_of(model.backbone).config
    return int(config.num_hidden_layers)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(one.nbytes for one in tensors)


def _frozen_bytes(model: Adapted, quantise: str | None) -> int:
    """Of all that is not trained, buffers too."""
    whole = [p for p in model.parameters() if not p.requires_grad] + [*model.buffers()]
    packed = [one.weight for one in model.modules() if isinstance(one, Packed)]
    numbers = sum(weight.numel() for weight in packed)
    if quantise == "nf4":
        fewer = ceil(numbers * _NF4)
    else:
        fewer = numbers + 4 * sum(len(weight) for weight in packed)
    return _bytes(whole) - _bytes(packed) + (fewer if packed else 0)


def _drawn_bytes(build: Build, recipe: Recipe) -> int:
    """Of weights while they are drawn: all blocks in float32, also of those that are dropped."""
    model = build(replace(recipe, layers=None))
    return 4 * sum(p.numel() for p in plain_of(model.backbone).parameters() if not p.requires_grad)


def _unpacked(model: Adapted) -> int:
    """Of the largest weight in fewer bits, made whole for the product that reads it."""
    layers = (one.weight.nbytes for one in model.modules() if isinstance(one, Packed))
    return max(layers, default=0)


def _copies_bytes(model: Adapted, recipe: Recipe, rows: int, kind: str) -> int:
    """Of what is kept of frozen weights for the passes that learn."""
    if kind != "cpu":
        return 0
    layers: list[tuple[Tensor, bool]] = []
    lean = uncovered_training(model.backbone) is None
    for module in model.backbone.modules():
        if isinstance(module, LoraLinear):
            layers.append((module.frozen()[0], True))
        elif lean and type(module) is nn.Linear and not module.weight.requires_grad:
            layers.append((module.weight, False))
    # A layer that is adapted comes a second time, as the frozen one inside; GPT-2's has no copies.
    own = [pair for pair in reversed(layers) if isinstance(pair[0], nn.Parameter)]
    unique = {id(weight): (weight, adapted) for weight, adapted in own}
    return bytes_of_copies(unique.values(), rows=rows, in_int8=recipe.products == "int8")


def _packed_bytes(model: Adapted, kind: str) -> int:
    """Of the lean pass's own weights."""
    backbone = model.backbone.eval()
    if kind != "cpu" or uncovered(backbone) is not None or not has_onednn(model.dtype):
        return 0
    plain: Any = plain_of(backbone)
    return _bytes(p for n, p in plain.layers.named_parameters() if "lora_" not in n)


def _session_bytes(model: Adapted) -> int:
    """Of the keys and values that a stream keeps of one episode; a predictor keeps none."""
    if not isinstance(model, AdaptedModel):
        return 0
    config: Any = plain_of(model.backbone).config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    steps, each = model.window + 1, model.encoder.tokens
    slots = slots_for(model.segment if each is None else steps * (each + 1) - 1)
    return int(2 * config.num_hidden_layers * heads * width * slots * model.dtype.itemsize)
