"""The operation for batches whose rows use different adapters: one frozen product, small ones each.

Rows of one adapter that lie together are views; others are gathered. Only the low-rank products
are split, so that a mixed batch costs what its rows would cost apart, and the frozen layer less.
Where the Triton kernels serve and all rows lie together, without dropout, they are fused as ever.

Source: the segmented shrink and expand of Punica (Chen et al., MLSys 2024) and S-LoRA (Sheng et
al., MLSys 2024), here as plain matrix products over sub-batches, with gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from netllm_adapt.lora import _mixed_triton as kernels
from netllm_adapt.lora._check import check
from netllm_adapt.lora._dropout import draw_seed
from netllm_adapt.lora._frozen import linear, turned_linear
from netllm_adapt.lora._op import autocast
from netllm_adapt.lora._packed import Packed, Weight, whole
from netllm_adapt.lora._torch import (
    add_low_rank,
    as_type,
    grad_a,
    grad_b,
    grad_small,
    mask_of,
    matrix,
    shrink,
)

Rows = slice | Tensor
Spec = tuple[Rows, float, float, int | None]
"""An adapter's rows, the factor of its S, its dropout and the seed of that."""


class Adapter(NamedTuple):
    """One adapter's matrices at a layer."""

    a: Float[Tensor, "rank inputs"]
    b: Float[Tensor, "outputs rank"]
    scale: float
    dropout: float = 0.0


@dataclass(frozen=True, eq=False)
class Route:
    """Where each adapter has its rows, by its name; rows of none stay frozen."""

    count: int
    """Rows of the batch."""
    rows: dict[str, Rows]


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
    found: list[Rows] = []
    for i in range(count):
        at = (ids == i).nonzero()[:, 0]
        together = len(at) > 0 and int(at[-1] - at[0]) == len(at) - 1
        found.append(slice(int(at[0]), int(at[-1]) + 1) if together else at.to(device))
    return found


def check_ids(ids: Any, layer: str) -> None:
    """Nothing, if ``ids`` are whole numbers along one axis.

    Raises:
        ValueError: Naming ``layer``, if they are not.
    """
    if not isinstance(ids, Tensor):
        got = type(ids).__name__
    elif ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        got = f"{ids.dtype} of shape {tuple(ids.shape)}"
    else:
        return
    raise ValueError(
        f"{layer}: `adapter_ids` must be a tensor of whole numbers, one per row, got {got}."
    )


def lora_linear_mixed(
    x: Float[Tensor, "rows *tokens inputs"],
    weight: Float[Tensor, "outputs inputs"] | Packed,
    bias: Float[Tensor, " outputs"] | None,
    adapters: Sequence[Adapter],
    adapter_ids: Int[Tensor, " rows"],
) -> Float[Tensor, "rows *tokens outputs"]:
    """``lora_linear`` with the matrices ``adapters[adapter_ids[i]]`` for row i of ``x``.

    Adapters may differ in rank, scale, dropout and dtype; each gets its gradients. Rows sorted by
    adapter are the fastest. Which rows those are depends on data, which
    ``torch.compile(fullgraph=True)`` cannot trace: compile without ``fullgraph``.

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
    x, weight, bias = autocast(x, weight, bias)
    for i, adapter in enumerate(adapters):
        check(x, weight, bias, *adapter[:2], adapter.dropout, f"{layer}, adapter {i}")
    rows = rows_of(adapter_ids, len(adapters), x.device, layer)
    return compute_mixed(x, weight, bias, adapters, rows)


def compute_mixed(
    x: Tensor,
    weight: Weight,
    bias: Tensor | None,
    adapters: Sequence[Adapter],
    rows: Sequence[Rows],
) -> Tensor:
    """``lora_linear_mixed`` of arguments that were checked; rows of no adapter stay frozen."""
    spec = []
    for adapter, at in zip(adapters, rows, strict=True):
        seed = draw_seed() if adapter.dropout else None
        spec.append((at, adapter.scale / (1 - adapter.dropout), adapter.dropout, seed))
    matrices = [part for adapter in adapters for part in (adapter.a, adapter.b)]
    result: Tensor = _Mixed.apply(  # type: ignore[no-untyped-call, unused-ignore]
        x, weight, bias, spec, *matrices
    )
    return result


def _take(x: Tensor, rows: Rows) -> Tensor:
    """Some rows of ``x`` as a matrix."""
    return matrix(x[rows] if isinstance(rows, slice) else x.index_select(0, rows))


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Weight,
        bias: Tensor | None,
        spec: list[Spec],
        *matrices: Tensor,
    ) -> Tensor:
        full = whole(weight, x.dtype)
        parts = _fused_parts(x, full, spec, matrices)
        if parts:
            low = matrices[::2], matrices[1::2]
            y, small = kernels.forward(matrix(x).contiguous(), full, bias, parts, *low)
            smalls = [small]
        else:
            y = linear(matrix(x), full, bias)
            smalls = _add_parts(y.view(*x.shape[:-1], len(full)), x, spec, matrices)
        ctx.save_for_backward(x, weight if full is weight else None, *matrices, *smalls)
        ctx.spec, ctx.fused = spec, bool(parts)
        ctx.packed = None if full is weight else weight
        return y.view(*x.shape[:-1], len(full))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *rest = ctx.saved_tensors
        for_x, for_weight, for_bias, _, *needs = ctx.needs_input_grad
        matrices, smalls = rest[: len(needs)], rest[len(needs) :]
        dy = matrix(grad)
        full = ctx.packed.unpack(x.dtype) if for_x and ctx.packed is not None else weight
        if ctx.fused:
            dense = dy.contiguous(), matrix(x).contiguous()
            low = matrices[::2], matrices[1::2]
            parts = _parts(x, ctx.spec)
            dx, grads = kernels.backward(*dense, full, parts, *low, smalls[0], for_x, needs)
        else:
            dx = turned_linear(dy, full).view(x.shape) if for_x else None
            grads = _grads_of_parts(grad, x, dx, ctx.spec, matrices, smalls, needs)
        return (
            None if dx is None else dx.view(x.shape),
            dy.t() @ matrix(x) if for_weight else None,
            dy.sum(0) if for_bias else None,
            None,
            *grads,
        )


def _fused_parts(
    x: Tensor, weight: Tensor, spec: Sequence[Spec], matrices: Sequence[Tensor]
) -> list[kernels.Part]:
    """What the kernels are told of the adapters; empty if they cannot, or should not, serve."""
    apart = any(dropout or not isinstance(rows, slice) for rows, _, dropout, _ in spec)
    return [] if apart or not kernels.serves(x, weight, matrices[::2]) else _parts(x, spec)


def _parts(x: Tensor, spec: Sequence[Spec]) -> list[kernels.Part]:
    """Adapters whose rows lie together, in rows of the matrix."""
    tokens = x[:1].numel() // x.shape[-1]
    return [
        kernels.Part(rows.start * tokens, rows.stop * tokens, factor)
        for rows, factor, _, _ in spec
        if isinstance(rows, slice)
    ]


def _add_parts(
    y: Tensor, x: Tensor, spec: Sequence[Spec], matrices: Sequence[Tensor]
) -> list[Tensor]:
    """Adds each adapter's low-rank product to its rows of ``y``; the S of all."""
    smalls = []
    for (rows, factor, dropout, seed), a, b in zip(
        spec, matrices[::2], matrices[1::2], strict=True
    ):
        part = _take(x, rows)  # (M of this adapter, K)
        small = shrink(part, a, factor, mask_of(part, dropout, seed))
        low_b = as_type(b, y.dtype).t()
        if isinstance(rows, slice):
            matrix(y[rows]).addmm_(small, low_b)
        else:
            y.index_add_(0, rows, (small @ low_b).view(len(rows), *y.shape[1:]))
        smalls.append(small)
    return smalls


def _grads_of_parts(
    grad: Tensor,
    x: Tensor,
    dx: Tensor | None,
    spec: Sequence[Spec],
    matrices: Sequence[Tensor],
    smalls: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of every A and B that are asked for; ``dx`` is completed."""
    grads: list[Tensor | None] = []
    for i, (part, small) in enumerate(zip(spec, smalls, strict=True)):
        at = slice(2 * i, 2 * i + 2)
        a, b = matrices[at]
        grads += _backward_part(grad, x, dx, a, b, small, part, needs[at])
    return grads


def _backward_part(
    grad: Tensor,
    x: Tensor,
    dx: Tensor | None,
    a: Tensor,
    b: Tensor,
    small: Tensor,
    part: Spec,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of one adapter's matrices; ``dx`` is completed at its rows."""
    rows, factor, dropout, seed = part
    dy = _take(grad, rows)
    own = _take(x, rows)
    mask = mask_of(own, dropout, seed)
    d_small = grad_small(dy, b, factor)
    if dx is None:
        pass
    elif isinstance(rows, slice):
        add_low_rank(matrix(dx[rows]), d_small, a, mask)
    else:
        low = add_low_rank(torch.zeros_like(own), d_small, a, mask)
        dx.index_add_(0, rows, low.view(len(rows), *dx.shape[1:]))
    return (
        grad_a(d_small, own, a, mask) if needs[0] else None,
        grad_b(dy, small, b) if needs[1] else None,
    )
