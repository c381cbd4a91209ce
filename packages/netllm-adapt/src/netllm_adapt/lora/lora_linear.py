"""Linear layers with low-rank matrices: one, several of one input, or one with many adapters."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from netllm_adapt.lora.autograd_function import compute
from netllm_adapt.lora.layer_group import Adapter, Matrices, Part, Rows, autocast, check

_WHOLE = torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64


def lora_linear(
    x: Float[Tensor, "*batch inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
    a: Float[Tensor, "rank inputs"],
    b: Float[Tensor, "outputs rank"],
    scale: float,
    *,
    dropout: float = 0.0,
    seed: int | None = None,
    layer: str = "lora_linear",
) -> Float[Tensor, "*batch outputs"]:
    """The frozen layer plus its low-rank part: ``x·Wᵀ + bias + scale·(x̂·Aᵀ)·Bᵀ``, x̂ = dropout(x).

    ``a`` and ``b`` may be of another dtype than ``x``: they are cast to its, never ``x`` to
    theirs, and their gradients come in their own. Under autocast ``x``, ``weight`` and ``bias``
    are cast to its dtype first, unless they are float64. No pass uses atomics: results repeat bit
    by bit. The gradients cannot be differentiated again.

    Args:
        x: Of the dtype and on the device of ``weight``; any strides.
        weight: Of the frozen layer; it gets a gradient if it asks for one.
        bias: Of the frozen layer.
        a: Shrinks to the rank.
        b: Expands from it.
        scale: Of the low-rank part: alpha / rank.
        dropout: Share of ``x`` dropped before the low-rank part only.
        seed: Of the dropout mask; drawn from torch's global stream if None.
        layer: Its name in errors.

    Raises:
        ValueError: If ``dropout`` is outside [0, 1), the rank is zero or above the layer's smaller
            side, or shapes, dtypes or devices do not fit.

    Source: LoRA (Hu et al., ICLR 2022), section 4.1.
    """
    x, weight, bias = autocast(x, weight, bias)
    check(x, weight, bias, layer, (a, b), dropout)
    part = Part(0, scale / (1 - dropout), dropout)
    seeds = torch.tensor([seed]) if dropout and seed is not None else None
    return compute(x, [bias], Matrices([weight], [a], [b]), [part], seeds)[0]


def lora_linear_grouped(
    x: Float[Tensor, "*batch inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    biases: Sequence[Float[Tensor, " _"] | None],
    matrices: Sequence[tuple[Float[Tensor, "_ inputs"], Float[Tensor, "_ _"]] | None],
    scales: Sequence[float],
    *,
    layers: Sequence[str] | None = None,
) -> tuple[Float[Tensor, "*batch _"], ...]:
    """``lora_linear(x, weights[i], biases[i], *matrices[i], scales[i])`` for every i; no dropout.

    The input is read once for all the A, and its gradient is summed in place. A layer whose
    ``matrices`` are None is the frozen one. ``layers`` are names for errors.

    Raises:
        ValueError: If the sequences differ in length, or the arguments of a layer do not fit.
    """
    lengths = [len(weights), len(biases), len(matrices), len(scales)]
    if len(set(lengths)) != 1 or 0 in lengths:
        raise ValueError(
            f"There must be as many weights, biases, matrices and scales, at least one, got "
            f"{lengths}."
        )
    names = layers or [f"lora_linear_grouped, layer {i}" for i in range(len(weights))]
    rows, own_weights, own_biases = x, [], []
    for weight, bias, pair, name in zip(weights, biases, matrices, names, strict=True):
        rows, weight, bias = autocast(rows, weight, bias)
        check(rows, weight, bias, name, pair)
        own_weights.append(weight)
        own_biases.append(bias)
    adapted = [(i, *pair) for i, pair in enumerate(matrices) if pair is not None]
    parts = [Part(i, scales[i]) for i, _, _ in adapted]
    group = Matrices(own_weights, [a for _, a, _ in adapted], [b for _, _, b in adapted])
    return compute(rows, own_biases, group, parts)


def lora_linear_mixed(
    x: Float[Tensor, "rows *tokens inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
    adapters: Sequence[Adapter],
    adapter_ids: Int[Tensor, " rows"],
) -> Float[Tensor, "rows *tokens outputs"]:
    """``lora_linear`` with the matrices ``adapters[adapter_ids[i]]`` for row i of ``x``.

    Adapters may differ in rank, scale, dropout and dtype; each gets its gradients. Rows of one
    adapter that lie together are views, others are gathered: rows sorted by adapter are the
    fastest. Which rows those are depends on data, which ``torch.compile(fullgraph=True)`` cannot
    trace: compile without ``fullgraph``.

    Raises:
        ValueError: If an id is out of range, or an adapter does not fit the layer.
    """
    layer = "lora_linear_mixed"
    rows = rows_of(adapter_ids, len(adapters), x.device, layer)
    if x.ndim < 2:
        raise ValueError(f"{layer}: `x` must have rows and a width, got shape {tuple(x.shape)}.")
    if len(adapter_ids) != len(x):
        raise ValueError(
            f"{layer}: `adapter_ids` must be one for each of the {len(x)} rows of `x`, "
            f"got {len(adapter_ids)}."
        )
    names = [f"{layer}, adapter {i}" for i in range(len(adapters))]
    return lora_linear_of_rows(x, weight, bias, adapters, rows, names)


def lora_linear_of_rows(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    adapters: Sequence[Adapter],
    rows: Sequence[Rows],
    names: Sequence[str],
) -> Tensor:
    """``lora_linear_mixed`` of adapters whose rows are known; those of no adapter stay frozen."""
    x, weight, bias = autocast(x, weight, bias)
    parts = []
    for adapter, own, name in zip(adapters, rows, names, strict=True):
        check(x, weight, bias, name, adapter[:2], adapter.dropout)
        parts.append(Part(0, adapter.scale / (1 - adapter.dropout), adapter.dropout, own))
    matrices = Matrices([weight], [a.a for a in adapters], [a.b for a in adapters])
    return compute(x, [bias], matrices, parts)[0]


def rows_of(ids: Any, count: int, device: torch.device, layer: str) -> list[Rows]:
    """Where each of ``count`` adapters has its rows: a slice if they lie together, else indices.

    Raises:
        ValueError: Naming ``layer``, unless ``ids`` are whole numbers from 0 to count - 1.
    """
    if not isinstance(ids, Tensor) or ids.ndim != 1 or ids.dtype not in _WHOLE:
        shape, kind = getattr(ids, "shape", ()), getattr(ids, "dtype", type(ids).__name__)
        raise ValueError(
            f"{layer}: `adapter_ids` must be a tensor of whole numbers, one per row, got {kind} "
            f"of shape {tuple(shape)}."
        )
    ids = ids.cpu()
    outside = ids[(ids < 0) | (ids >= count)]
    if len(outside):
        raise ValueError(
            f"{layer}: `adapter_ids` must be from 0 to {count - 1}: there are {count} adapters; "
            f"got {int(outside[0])}."
        )
    rows: list[Rows] = []
    for i in range(count):
        at = (ids == i).nonzero()[:, 0]
        together = len(at) > 0 and int(at[-1] - at[0]) == len(at) - 1
        rows.append(slice(int(at[0]), int(at[-1]) + 1) if together else at.to(device))
    return rows
