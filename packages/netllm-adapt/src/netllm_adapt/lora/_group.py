"""What layers that read the same input compute together, and their gradients.

A layer without low-rank matrices has such of rank 0. Kernels that fuse the low-rank part into the
frozen product have no shrink to share, so layers share it only where the back end ``torch`` serves
them all; otherwise each is computed by its own.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora._backends import TORCH, Backend, backend_for
from netllm_adapt.lora._frozen import linears, turned_linear
from netllm_adapt.lora._torch import as_type, grad_b, grad_small, matrix


def forward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
    scales: Sequence[float],
) -> tuple[list[Tensor], Tensor]:
    """The output of every layer, and S of all: (rows of x, sum of ranks)."""
    own = _own_backends(x, weights, shrinks)
    if own is not None:
        layers = zip(weights, biases, shrinks, expands, scales, strict=True)
        pairs = [way.forward(x, *layer, 0.0, None) for way, layer in zip(own, layers, strict=True)]
        return [y for y, _ in pairs], torch.cat([small for _, small in pairs], dim=1)
    rows = matrix(x)
    small = F.linear(rows, _stacked(shrinks, x.dtype))
    outputs = linears(rows, weights, biases, adapted=[len(a) > 0 for a in shrinks])
    for y, part, b, scale in zip(outputs, _split(small, shrinks), expands, scales, strict=True):
        if part.shape[1]:
            y.addmm_(part.mul_(scale) if scale != 1 else part, as_type(b, x.dtype).t())
    return [y.view(*x.shape[:-1], y.shape[1]) for y in outputs], small


def backward(
    grads: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
    small: Tensor,
    scales: Sequence[float],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients asked for of x, all weights, all biases, all A and all B, in this order.

    Layers whose output has no gradient have none.
    """
    count, rows, parts = len(weights), matrix(x), _split(small, shrinks)
    out: list[Tensor | None] = [None] * (1 + 4 * count)
    dys = {i: matrix(grad) for i, grad in enumerate(grads) if grad is not None}
    own = _own_backends(x, weights, shrinks)
    if own is not None:
        for i, dy in dys.items():
            asked = [needs[0], *needs[1 + i :: count]]
            given = (rows, weights[i], shrinks[i], expands[i], parts[i].contiguous(), scales[i])
            grad_x, *out[1 + i :: count] = own[i].backward(dy, *given, 0.0, None, asked)
            out[0] = grad_x if grad_x is None or out[0] is None else out[0].add_(grad_x)
    elif dys:
        d_smalls = []
        for i, dy in dys.items():  # while dY is in the cache, before the large products
            d_smalls.append(grad_small(dy, expands[i], scales[i]))
            if needs[1 + 3 * count + i]:
                out[1 + 3 * count + i] = grad_b(dy, parts[i], expands[i])
        d_small = torch.cat(d_smalls, dim=1)
        if needs[0]:
            out[0] = _grad_x(dys, weights, shrinks, d_small)
        das = (d_small.t() @ rows).split([len(shrinks[i]) for i in dys])
        for da, (i, dy) in zip(das, dys.items(), strict=True):
            for_weight, for_bias, for_a, _ = needs[1 + i :: count]
            out[1 + i : 1 + 3 * count : count] = [
                dy.t() @ rows if for_weight else None,
                dy.sum(0) if for_bias else None,
                as_type(da, shrinks[i].dtype) if for_a else None,
            ]
    out[0] = None if out[0] is None else out[0].view(x.shape)
    return out


def _own_backends(
    x: Tensor, weights: Sequence[Tensor], shrinks: Sequence[Tensor]
) -> list[Backend] | None:
    """The back end of each layer, or None if all share the shrink.

    Layers without matrices have torch's.
    """
    found = [
        backend_for(x, weight, a) if len(a) else TORCH
        for weight, a in zip(weights, shrinks, strict=True)
    ]
    return None if all(way is TORCH for way in found) else found


def _grad_x(
    dys: dict[int, Tensor], weights: Sequence[Tensor], shrinks: Sequence[Tensor], d_small: Tensor
) -> Tensor:
    dx = None
    for i, dy in dys.items():
        dx = turned_linear(dy, weights[i], dx, adapted=len(shrinks[i]) > 0)
    assert dx is not None
    if d_small.shape[1]:
        dx.addmm_(d_small, _stacked([shrinks[i] for i in dys], dx.dtype))
    return dx


def _stacked(shrinks: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([as_type(a, dtype) for a in shrinks])


def _split(small: Tensor, shrinks: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Views of each layer's columns."""
    return small.split([len(a) for a in shrinks], dim=1)
