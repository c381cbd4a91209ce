"""Matrix products in the best order: the large activations are read and written least often.

The low-rank products accumulate into the frozen layers' own outputs (``addmm_``), so the passes of
eager LoRA over an extra tensor of the output's size fall away. For the backward pass serve ``x``
and every ``S = factor·x̂·Aᵀ`` alone; a dropout mask is drawn again from its seed.

Layers that read the same input share one product with all their A, where each takes all rows and
none drops out. Matrices of some rows, as those of a batch that mixes adapters, have their own.

Source: the segmented shrink and expand of Punica (Chen et al., MLSys 2024) and S-LoRA (Sheng et
al., MLSys 2024), here as plain matrix products over sub-batches, with gradients.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora.dropout import draw_mask, masked
from netllm_adapt.lora.frozen_weights import linears, transposed_linear
from netllm_adapt.lora.layer_group import Matrices, Part, Rows


def forward(
    x: Tensor, biases: Sequence[Tensor | None], matrices: Matrices, parts: Sequence[Part]
) -> tuple[list[Tensor], list[Tensor]]:
    """``x·Wᵀ + bias + S·Bᵀ`` of every layer, and S of every part: (its rows, rank)."""
    smalls: list[Tensor] = [x] * len(parts)
    for numbers in _shared(parts):
        part = parts[numbers[0]]
        own = _some_rows(x, part.rows)
        if part.dropout:
            own = masked(own, draw_mask(own, part.dropout, part.seed))
        small = F.linear(own, _joined([_of_type(matrices.a[i], x.dtype) for i in numbers]))
        for i, mine in zip(numbers, _split(small, numbers, matrices, dim=1), strict=True):
            smalls[i] = mine if parts[i].factor == 1 else mine.mul_(parts[i].factor)
    adapted = [part.layer for part in parts]
    ys = linears(_matrix(x), matrices.weights, biases, adapted=adapted)
    if x.ndim != 2:
        ys = [y.view(*x.shape[:-1], y.shape[-1]) for y in ys]
    for part, small, b in zip(parts, smalls, matrices.b, strict=True):
        _add_product(ys[part.layer], part.rows, small, _of_type(b, x.dtype).t())
    return ys, smalls


def backward(
    grads: Sequence[Tensor | None],
    x: Tensor,
    matrices: Matrices,
    parts: Sequence[Part],
    smalls: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients asked for of x, all biases, all weights, all A and all B, in this order.

    Layers whose output has no gradient have none. dY is read for dS and the gradient of B while it
    is in the cache, before the large product for x.
    """
    layers, count = len(matrices.weights), len(parts)
    for_bias, for_weight = needs[1 : 1 + layers], needs[1 + layers : 1 + 2 * layers]
    for_a, for_b = needs[1 + 2 * layers :][:count], needs[1 + 2 * layers + count :]
    d_smalls: dict[int, Tensor] = {}
    of_b: list[Tensor | None] = [None] * count
    for i, (part, b) in enumerate(zip(parts, matrices.b, strict=True)):
        grad = grads[part.layer]
        if grad is not None:
            dy = _some_rows(grad, part.rows)
            if needs[0] or for_a[i]:
                d_small = dy @ _of_type(b, dy.dtype)
                d_smalls[i] = d_small if part.factor == 1 else d_small.mul_(part.factor)
            if for_b[i]:
                of_b[i] = _of_type(dy.t() @ smalls[i], b.dtype)
    dx = None
    if needs[0]:
        adapted = [part.layer for part in parts]
        for i, (grad, weight) in enumerate(zip(grads, matrices.weights, strict=True)):
            if grad is not None:
                dx = transposed_linear(_matrix(grad), weight, dx, adapted=i in adapted)
        dx = dx if dx is None or x.ndim == 2 else dx.view(x.shape)
    of_a = _through_shrinks(x, dx, matrices, parts, d_smalls, for_a)
    of_bias: list[Tensor | None] = [None] * layers
    of_weight: list[Tensor | None] = [None] * layers
    for i, grad in enumerate(grads):
        if grad is not None and for_bias[i]:
            of_bias[i] = _matrix(grad).sum(0)
        if grad is not None and for_weight[i]:
            of_weight[i] = _matrix(grad).t() @ _matrix(x)
    return [dx, *of_bias, *of_weight, *of_a, *of_b]


def _through_shrinks(
    x: Tensor,
    dx: Tensor | None,
    matrices: Matrices,
    parts: Sequence[Part],
    d_smalls: dict[int, Tensor],
    for_a: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of every A; ``dx`` is completed by what comes through them."""
    of_a: list[Tensor | None] = [None] * len(parts)
    for numbers in _shared(parts):
        numbers = [i for i in numbers if i in d_smalls]
        if not numbers:
            continue
        part = parts[numbers[0]]
        own = _some_rows(x, part.rows)
        mask = draw_mask(own, part.dropout, part.seed) if part.dropout else None
        d_small = _joined([d_smalls[i] for i in numbers], dim=1)
        if dx is not None:
            a = _joined([_of_type(matrices.a[i], dx.dtype) for i in numbers])
            if mask is None:
                _add_product(dx, part.rows, d_small, a)
            else:
                _add_rows(dx, part.rows, masked(d_small @ a, mask))
        if any(for_a[i] for i in numbers):
            joint = d_small.t() @ (own if mask is None else masked(own, mask))
            for i, mine in zip(numbers, _split(joint, numbers, matrices, dim=0), strict=True):
                of_a[i] = _of_type(mine, matrices.a[i].dtype) if for_a[i] else None
    return of_a


def _shared(parts: Sequence[Part]) -> list[list[int]]:
    """The numbers of the parts that share a product with the input; others have one each."""
    if len(parts) == 1:
        return [[0]]
    every = [i for i, part in enumerate(parts) if part.rows is None and not part.dropout]
    alone = [[i] for i, part in enumerate(parts) if part.rows is not None or part.dropout]
    return [every, *alone] if every else alone


def _matrix(x: Tensor) -> Tensor:
    """``x`` with all axes but the last as one; a call that changes nothing costs a microsecond."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def _of_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """``value`` in a dtype; asking first takes a fifth of the time of ``to`` without effect."""
    return value if value.dtype == dtype else value.to(dtype)


def _some_rows(x: Tensor, rows: Rows | None) -> Tensor:
    """Some rows of ``x``, or all, as a matrix."""
    if rows is not None:
        x = x[rows] if isinstance(rows, slice) else x.index_select(0, rows)
    return _matrix(x)


def _add_product(y: Tensor, rows: Rows | None, left: Tensor, right: Tensor) -> None:
    """Adds the product of two matrices to some rows of ``y``, or to all."""
    if isinstance(rows, Tensor):
        _add_rows(y, rows, left @ right)
    else:
        own = y if rows is None else y[rows]
        (own if own.ndim == 2 else own.view(-1, y.shape[-1])).addmm_(left, right)


def _add_rows(y: Tensor, rows: Rows | None, more: Tensor) -> None:
    """Adds a matrix to some rows of ``y``, or to all."""
    if isinstance(rows, Tensor):
        y.index_add_(0, rows, more.view(len(rows), *y.shape[1:]))
    else:
        part = y if rows is None else y[rows]
        part += more.view(part.shape)


def _joined(pieces: list[Tensor], dim: int = 0) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def _split(joint: Tensor, numbers: Sequence[int], matrices: Matrices, dim: int) -> Sequence[Tensor]:
    """Views of what belongs to each part, by ranks."""
    if len(numbers) == 1:  # `len` of a tensor takes as long as a small product
        return [joint]
    return joint.split([matrices.a[i].shape[0] for i in numbers], dim)
