"""Linear layers with low-rank matrices: one, several of one input, or one with many adapters."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from netllm_adapt.lora.arguments import (
    Adapter,
    Part,
    Rows,
    autocast,
    check,
    check_ids,
    check_input,
)
from netllm_adapt.lora.operation import compute

Matrices = tuple[Float[Tensor, "_ inputs"], Float[Tensor, "_ _"]]


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
    check(x, weight, bias, a, b, dropout, layer)
    part = Part(0, scale / (1 - dropout), dropout, seed)
    return compute(x, [weight], [bias], [part], [a], [b])[0]


def lora_linear_grouped(
    x: Float[Tensor, "*batch inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    biases: Sequence[Float[Tensor, " _"] | None],
    matrices: Sequence[Matrices | None],
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
    lengths = {len(weights), len(biases), len(matrices), len(scales)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "There must be as many weights, biases, matrices and scales, at least one, got "
            f"{len(weights)}, {len(biases)}, {len(matrices)} and {len(scales)}."
        )
    names = layers or [f"lora_linear_grouped, layer {i}" for i in range(len(weights))]
    rows, own_weights, own_biases, parts, pairs = x, [], [], [], []
    given = zip(weights, biases, matrices, scales, names, strict=True)
    for i, (weight, bias, pair, scale, name) in enumerate(given):
        rows, weight, bias = autocast(rows, weight, bias)
        if pair is None:
            check_input(rows, weight, bias, name)
        else:
            check(rows, weight, bias, *pair, 0.0, name)
            parts.append(Part(i, scale))
            pairs.append(pair)
        own_weights.append(weight)
        own_biases.append(bias)
    shrinks, expands = [a for a, _ in pairs], [b for _, b in pairs]
    return compute(rows, own_weights, own_biases, parts, shrinks, expands)


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
    check_ids(adapter_ids, layer)
    if x.ndim < 2:
        raise ValueError(f"{layer}: `x` must have rows and a width, got shape {tuple(x.shape)}.")
    if len(adapter_ids) != len(x):
        raise ValueError(
            f"{layer}: `adapter_ids` must be one for each of the {len(x)} rows of `x`, "
            f"got {len(adapter_ids)}."
        )
    rows = rows_of(adapter_ids, len(adapters), x.device, layer)
    names = [f"{layer}, adapter {i}" for i in range(len(adapters))]
    return compute_rows(x, weight, bias, adapters, rows, names)


def compute_rows(
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
        check(x, weight, bias, adapter.a, adapter.b, adapter.dropout, name)
        share = adapter.dropout
        parts.append(Part(0, adapter.scale / (1 - share), share, None, own))
    shrinks, expands = [a.a for a in adapters], [a.b for a in adapters]
    return compute(x, [weight], [bias], parts, shrinks, expands)[0]


def rows_of(ids: Int[Tensor, " rows"], count: int, device: torch.device, layer: str) -> list[Rows]:
    """Where each of ``count`` adapters has its rows: a slice if they lie together, else indices.

    Raises:
        ValueError: Naming ``layer``, if an id is outside 0 … count - 1.
    """
    check_ids(ids, layer)
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
