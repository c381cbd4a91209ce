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

from netllm_adapt.lora.arguments import Part, Rows
from netllm_adapt.lora.dropout import draw_mask, masked
from netllm_adapt.lora.frozen import linears, transposed_linear


def forward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    parts: Sequence[Part],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """``x·Wᵀ + bias + S·Bᵀ`` of every layer, and S of every part: (its rows, rank)."""
    smalls: list[Tensor] = [x] * len(parts)
    for numbers in _shared(parts):
        own = _some_rows(x, parts[numbers[0]].rows)
        own = _under(_mask_of(own, parts[numbers[0]]), own)
        small = F.linear(own, _joined([as_type(shrinks[i], x.dtype) for i in numbers]))
        for i, mine in zip(numbers, _split(small, numbers, shrinks, dim=1), strict=True):
            smalls[i] = mine if parts[i].factor == 1 else mine.mul_(parts[i].factor)
    adapted = [False] * len(weights)
    for part in parts:
        adapted[part.layer] = True
    ys = linears(_matrix(x), weights, biases, adapted=adapted)
    ys = [y if x.ndim == 2 else y.view(*x.shape[:-1], y.shape[-1]) for y in ys]
    for part, small, b in zip(parts, smalls, expands, strict=True):
        _add_product(ys[part.layer], part.rows, small, as_type(b, x.dtype).t())
    return ys, smalls


def backward(
    grads: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    parts: Sequence[Part],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
    smalls: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients asked for of x, all weights, all biases, all A and all B, in this order.

    Layers whose output has no gradient have none. dY is read for dS and the gradient of B while it
    is in the cache, before the large product for x.
    """
    layers, count = len(weights), len(parts)
    for_a, for_b = needs[1 + 2 * layers :][:count], needs[1 + 2 * layers + count :]
    d_smalls: dict[int, Tensor] = {}
    of_b: list[Tensor | None] = [None] * count
    for i, (part, b) in enumerate(zip(parts, expands, strict=True)):
        grad = grads[part.layer]
        if grad is not None:
            dy = _some_rows(grad, part.rows)
            if needs[0] or for_a[i]:
                d_small = dy @ as_type(b, dy.dtype)
                d_smalls[i] = d_small if part.factor == 1 else d_small.mul_(part.factor)
            if for_b[i]:
                of_b[i] = as_type(dy.t() @ smalls[i], b.dtype)
    dx = _through_frozen(grads, x, weights, parts) if needs[0] else None
    of_a = _through_shrinks(x, dx, parts, shrinks, d_smalls, for_a)
    frozen = [_of_layer(grads[i], x, needs[1 + i], needs[1 + layers + i]) for i in range(layers)]
    return [dx, *(weight for weight, _ in frozen), *(bias for _, bias in frozen), *of_a, *of_b]


def _through_frozen(
    grads: Sequence[Tensor | None], x: Tensor, weights: Sequence[Tensor], parts: Sequence[Part]
) -> Tensor | None:
    """The gradient of x through the frozen layers."""
    adapted = {part.layer for part in parts}
    dx = None
    for i, (grad, weight) in enumerate(zip(grads, weights, strict=True)):
        if grad is not None:
            dx = transposed_linear(_matrix(grad), weight, dx, adapted=i in adapted)
    return dx if dx is None or x.ndim == 2 else dx.view(x.shape)


def _through_shrinks(
    x: Tensor,
    dx: Tensor | None,
    parts: Sequence[Part],
    shrinks: Sequence[Tensor],
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
        mask = _mask_of(own, part)
        d_small = _joined([d_smalls[i] for i in numbers], dim=1)
        if dx is not None:
            a = _joined([as_type(shrinks[i], dx.dtype) for i in numbers])
            if mask is not None:
                _add_rows(dx, part.rows, masked(d_small @ a, mask))
            else:
                _add_product(dx, part.rows, d_small, a)
        if any(for_a[i] for i in numbers):
            joint = d_small.t() @ _under(mask, own)
            for i, mine in zip(numbers, _split(joint, numbers, shrinks, dim=0), strict=True):
                of_a[i] = as_type(mine, shrinks[i].dtype) if for_a[i] else None
    return of_a


def _of_layer(
    grad: Tensor | None, x: Tensor, for_weight: bool, for_bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a layer's weight and bias, mostly not asked for."""
    if grad is None or not (for_weight or for_bias):
        return None, None
    dy = _matrix(grad)
    return dy.t() @ _matrix(x) if for_weight else None, dy.sum(0) if for_bias else None


def _shared(parts: Sequence[Part]) -> list[list[int]]:
    """The numbers of the parts that share a product with the input; others have one each."""
    every = [i for i, part in enumerate(parts) if part.rows is None and not part.dropout]
    alone = [[i] for i, part in enumerate(parts) if part.rows is not None or part.dropout]
    return [every, *alone] if every else alone


def as_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """``value`` in another dtype."""
    return value if value.dtype == dtype else value.to(dtype)


def _matrix(x: Tensor) -> Tensor:
    """``x`` with all axes but the last as one; a call that changes nothing costs a microsecond."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def _some_rows(x: Tensor, rows: Rows | None) -> Tensor:
    """Some rows of ``x``, or all, as a matrix."""
    if rows is not None:
        x = x[rows] if isinstance(rows, slice) else x.index_select(0, rows)
    return _matrix(x)


def _mask_of(own: Tensor, part: Part) -> Tensor | None:
    """The dropout mask of the part's rows of the input; None without dropout."""
    if not part.dropout or part.seed is None:
        return None
    return draw_mask(own, part.dropout, part.seed)


def _under(mask: Tensor | None, x: Tensor) -> Tensor:
    return x if mask is None else masked(x, mask)


def _add_product(y: Tensor, rows: Rows | None, left: Tensor, right: Tensor) -> None:
    """Adds the product of two matrices to some rows of ``y``, or to all."""
    if isinstance(rows, Tensor):
        _add_rows(y, rows, left @ right)
    else:
        (y if rows is None else y[rows]).view(-1, y.shape[-1]).addmm_(left, right)


def _add_rows(y: Tensor, rows: Rows | None, more: Tensor) -> None:
    """Adds a matrix to some rows of ``y``, or to all."""
    if isinstance(rows, Tensor):
        y.index_add_(0, rows, more.view(len(rows), *y.shape[1:]))
    else:
        part = y if rows is None else y[rows]
        part += more.view(part.shape)


def _joined(pieces: list[Tensor], dim: int = 0) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def _split(
    joint: Tensor, numbers: Sequence[int], shrinks: Sequence[Tensor], dim: int
) -> Sequence[Tensor]:
    """Views of what belongs to each part, by ranks."""
    return [joint] if len(numbers) == 1 else joint.split([len(shrinks[i]) for i in numbers], dim)
