"""The back end for GPUs: launches the Triton kernels; triton is imported at the first use."""

import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from netllm_adapt.lora._philox import threshold
from netllm_adapt.lora._tiles import Tile, Tiles, tiles_for

_SMALLEST = 512
"""Rows below which launching four kernels costs more than the traffic that they save."""
_PROGRAMS = 256
"""About how many programs fill a large GPU twice."""
_HALVES = torch.float16, torch.bfloat16
_SMALL_RANK = 32
"""Above it `grads_of_small` reads dY twice: accumulators of tall tiles would not fit registers."""


@cache
def installed() -> bool:
    """Whether triton can be imported."""
    return find_spec("triton") is not None


def covers(x: Tensor, weight: Tensor, a: Tensor) -> bool:
    """Half precision on a GPU that has bfloat16, sides in sixteens, enough rows, ranks to 128."""
    return (
        x.is_cuda
        and installed()
        and torch.cuda.get_device_capability(x.device) >= (8, 0)
        and x.dtype in _HALVES
        and x.numel() >= _SMALLEST * x.shape[-1]
        and 1 in weight.stride()
        and weight.shape[0] % 16 == weight.shape[1] % 16 == 0
        and a.shape[0] <= 128
    )


@cache
def _kernels(device: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    if not installed():
        raise ModuleNotFoundError(
            "The back end 'triton' needs triton. Run: pip install 'netllm-adapt[triton]'"
        )
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"The back end 'triton' needs tensors on a CUDA GPU, got {device}. "
            "TRITON_INTERPRET=1 in the environment runs it on a CPU, very slowly."
        )
    if device == "cuda" and dtype not in _HALVES:  # their products would spill registers
        raise ValueError(
            f"On a GPU the back end 'triton' computes in float16 and bfloat16, got {dtype}. "
            "The back end 'torch' takes it."
        )
    from netllm_adapt.lora import _kernels as kernels

    return kernels


@cache
def _tiles(device: torch.device) -> Tiles:
    if device.type != "cuda":  # the interpreter
        return tiles_for(0)
    major, minor = torch.cuda.get_device_capability(device)
    return tiles_for(10 * major + minor)


def _options(x: Tensor, a: Tensor, tile: Tile) -> dict[str, Any]:
    """What every kernel is told: the padded rank, how to multiply, warps and stages."""
    rank = max(16, 1 << (len(a) - 1).bit_length())
    precision = "ieee" if x.dtype == torch.float32 else "tf32"
    return {
        "R": rank,
        "PRECISION": precision,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "enable_fp_fusion": True,
    }


def _chunk(size: int, programs: int, block: int) -> int:
    """How much of ``size`` each program takes, in whole blocks, so that ``programs`` suffice."""
    return -(-size // (max(1, programs) * block)) * block


def keep_mask(x: Tensor, share: float, seed: int) -> Tensor:
    """1 where an element of ``x`` survives dropout, else 0; equal to ``_philox.keep_mask``."""
    out = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    rows, width = x.numel() // max(x.shape[-1], 1), x.shape[-1]
    with torch.cuda.device_of(x):
        _kernels(x.device.type).keep[(-(-rows // 16), -(-width // 64))](
            out, rows, width, threshold(share), seed, BM=16, BN=64, enable_fp_fusion=True
        )
    return out


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    seed: int | None,
    /,
) -> tuple[Tensor, Tensor]:
    """``x·Wᵀ + bias + S·Bᵀ``, and ``S = scale·x̂·Aᵀ``, in two kernels."""
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    a, b = a.to(x.dtype).contiguous(), b.to(x.dtype).contiguous()
    with torch.cuda.device_of(x):
        small = shrink(rows, a, scale / (1 - dropout), dropout, seed or 0)
        y = gemm(rows, weight.t(), small, b.t(), bias)
    return y.view(*x.shape[:-1], y.shape[-1]), small


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    a: Tensor,
    b: Tensor,
    small: Tensor,
    scale: float,
    dropout: float,
    seed: int | None,
    needs: Sequence[bool],
    /,
) -> tuple[Tensor | None, ...]:
    """The gradients that are asked for, in three or four kernels; a frozen layer's by torch."""
    for_x, for_weight, for_bias, for_a, for_b = needs
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    dy = grad.reshape(-1, grad.shape[-1]).contiguous()
    low_a, low_b = a.to(x.dtype).contiguous(), b.to(x.dtype).contiguous()
    draw = dropout, seed or 0
    dx = da = db = None
    with torch.cuda.device_of(x):
        if for_x or for_a or for_b:
            d_small, db = grads_of_small(dy, low_b, small, scale / (1 - dropout))
        if for_a:
            da = grad_a(d_small, rows, low_a, *draw).to(a.dtype)
        if for_x:
            dx = gemm(dy, weight, d_small, low_a, None, *draw).view(x.shape)
    return (
        dx,
        dy.t() @ rows if for_weight else None,
        dy.sum(0) if for_bias else None,
        da,
        db.to(b.dtype) if for_b and db is not None else None,
    )


def shrink(
    x: Tensor,
    a: Tensor,
    factor: float,
    share: float,
    seed: int,
    tile: Tile | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``factor · x̂ (M, K) · a (r, K)ᵀ``, into `out` if there is one."""
    (m, k), r = x.shape, len(a)
    tile = tile or _tiles(x.device).shrink
    small = x.new_empty(m, r) if out is None else out
    _kernels(x.device.type, x.dtype).shrink[(-(-m // tile.bm),)](
        x, a, small, m, k, r, factor, threshold(share), seed,
        DROPS=share > 0, EVEN_K=k % tile.bk == 0, BM=tile.bm, BK=tile.bk, **_options(x, a, tile),
    )  # fmt: skip
    return small


def gemm(
    p: Tensor,
    q: Tensor,
    u: Tensor,
    v: Tensor,
    bias: Tensor | None,
    share: float = 0.0,
    seed: int = 0,
    tile: Tile | None = None,
    ids: Tensor | None = None,
) -> Tensor:
    """``p (m, k) · q (k, n) + u (m, r) · v (r, n) + bias``; q and v may be transposed views.

    With `ids`, int32 (m), row i has ``v[ids[i]]`` of ``v (·, r, n)``.
    """
    (m, k), n, r = p.shape, q.shape[1], u.shape[1]
    tile = tile or _tiles(p.device).gemm_for(r, drops=share > 0, mixes=ids is not None)
    if 1 not in q.stride():
        q = q.contiguous()
    q_by_k, v_by_r = q.stride(0) == 1, v.stride(-2) == 1
    out = p.new_empty(m, n)
    _kernels(p.device.type, p.dtype).gemm[(-(-m // tile.bm) * -(-n // tile.bn),)](
        p, q, u, v, out if bias is None else bias, out, out if ids is None else ids, m, n, k, r,
        q.stride(1) if q_by_k else q.stride(0), v.stride(-1) if v_by_r else v.stride(-2),
        threshold(share), seed,
        Q_BY_K=q_by_k, V_BY_R=v_by_r, HAS_BIAS=bias is not None, DROPS=share > 0,
        MIXES=ids is not None, EVEN_K=k % tile.bk == 0, BM=tile.bm, BN=tile.bn, BK=tile.bk, GROUP=8,
        **_options(p, u.t(), tile),
    )  # fmt: skip
    return out


def grads_of_small(
    dy: Tensor, b: Tensor, small: Tensor, factor: float, tile: Tile | None = None
) -> tuple[Tensor, Tensor]:
    """``factor · dy (M, N) · b (N, r)`` in dy's dtype, and ``dyᵀ · small (M, r)`` in float32."""
    tile = tile or _tiles(dy.device).grads_of_small
    (m, n), r = dy.shape, small.shape[1]
    grid = one_pass(m, n, r, dy.element_size(), tile)
    if grid is not None:
        return _in_one_pass(dy, b, small, factor, tile, *grid)
    b_t = b.t().contiguous()
    return shrink(dy, b_t, factor, 0.0, 0), grad_a(small, dy, b_t, 0.0, 0).t()


def one_pass(m: int, n: int, r: int, size: int, tile: Tile) -> tuple[int, int] | None:
    """How many programs share the rows and the columns of dy (m, n) when it is read once.

    None if writing their sums and reading them back is no less traffic than reading dy again, of
    ``size`` bytes a number: so the sums never take more memory than half of dy.
    """
    down = -(-m // tile.bm)
    across = -(-n // _chunk(n, _PROGRAMS // 2 // down, tile.bn))
    sums = 4 * r * (across * m + down * n)
    return (down, across) if r <= _SMALL_RANK and 2 * sums < m * n * size else None


def _in_one_pass(
    dy: Tensor, b: Tensor, small: Tensor, factor: float, tile: Tile, down: int, across: int
) -> tuple[Tensor, Tensor]:
    (m, n), r = dy.shape, small.shape[1]
    ds = dy.new_empty(across, m, r, dtype=torch.float32)
    db = dy.new_empty(down, n, r, dtype=torch.float32)
    _kernels(dy.device.type, dy.dtype).grads_of_small[(down, across)](
        dy, b, small, ds, db, m, n, r, _chunk(n, across, tile.bn),
        BM=tile.bm, BN=tile.bn, **_options(dy, small.t(), tile),
    )  # fmt: skip
    return ds.sum(0).mul_(factor).to(dy.dtype), db.sum(0)


def grad_a(
    d_small: Tensor, x: Tensor, a: Tensor, share: float, seed: int, tile: Tile | None = None
) -> Tensor:
    """``d_small (M, r)ᵀ · x̂ (M, K)`` without the division by 1 - share; float32."""
    (m, k), r = x.shape, len(a)
    tile = tile or _tiles(x.device).grad_a
    programs = -(-k // tile.bk)
    each = _chunk(m, _PROGRAMS // programs, tile.bm)
    da = x.new_empty(-(-m // each), r, k, dtype=torch.float32)
    _kernels(x.device.type, x.dtype).grad_a[(programs, len(da))](
        d_small, x, da, m, k, r, threshold(share), seed, each,
        DROPS=share > 0, BM=tile.bm, BK=tile.bk, **_options(x, a, tile),
    )  # fmt: skip
    return da.sum(0)
