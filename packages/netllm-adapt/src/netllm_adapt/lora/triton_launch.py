"""How the Triton kernels are cut into tiles and launched; triton is imported at the first use."""

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

_PROGRAMS = 256
"""About how many programs fill a large GPU twice."""
HALVES = torch.float16, torch.bfloat16
_SMALL_RANK = 32
"""Above it `grads_of_small` reads dY twice: accumulators of tall tiles would not fit registers."""


@dataclass(frozen=True)
class Tile:
    """Sides of a tile, and the compiler's options; a kernel reads the sides that it has."""

    bm: int
    bn: int
    bk: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tiles:
    """The tiles of every kernel."""

    shrink: Tile
    gemm: Tile
    gemm_drops: Tile
    """With the low-rank product as prologue, whose tiles take shared memory beside the loop's; and
    for ranks whose rows are read number by number, or of several adapters above 64, at the cost of
    registers."""
    grads_of_small: Tile
    """Tall, since each of its programs writes a part of dB; for ranks up to 32."""
    grad_a: Tile

    def gemm_for(self, rank: int, *, drops: bool, mixes: bool = False) -> Tile:
        """The tile of the main product, without spills for any rank."""
        small = drops or (mixes and rank > 64) or (rank > 16 and rank % 16)
        return self.gemm_drops if small else self.gemm


# KERNELS.md's starting points; only the compile test has seen them, no timing on a GPU yet.
_SM_90 = Tiles(
    shrink=Tile(32, 0, 64, 4, 4),
    gemm=Tile(128, 256, 64, 8, 3),
    gemm_drops=Tile(64, 128, 64, 8, 3),
    grads_of_small=Tile(512, 64, 0, 8, 2),
    grad_a=Tile(64, 0, 64, 8, 4),
)
_SM_80 = Tiles(
    shrink=Tile(32, 0, 64, 8, 4),
    gemm=Tile(128, 128, 32, 4, 4),
    gemm_drops=Tile(128, 128, 32, 8, 3),
    grads_of_small=Tile(256, 64, 0, 8, 2),
    grad_a=Tile(64, 0, 64, 4, 3),
)
# Fit the 99 KiB of shared memory that every GPU with bfloat16 gives a block.
_SAFE = Tiles(
    shrink=Tile(32, 0, 32, 4, 2),
    gemm=Tile(64, 64, 32, 4, 2),
    gemm_drops=Tile(64, 64, 32, 4, 2),
    grads_of_small=Tile(128, 32, 0, 4, 2),
    grad_a=Tile(32, 0, 32, 4, 2),
)
_TABLE = {80: _SM_80, 90: _SM_90}


def tiles_for(arch: int) -> Tiles:
    """The tiles for a compute capability, 90 for 9.0; small ones for a GPU that nobody tuned."""
    return _TABLE.get(arch, _SAFE)


@cache
def installed() -> bool:
    """Whether triton can be imported."""
    return find_spec("triton") is not None


@cache
def _kernels(device: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    if not installed():
        raise ModuleNotFoundError(
            "The back end 'triton' needs triton. "
            "In a clone: pip install './packages/netllm-adapt[triton]'"
        )
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"The back end 'triton' needs tensors on a CUDA GPU, got {device}. "
            "TRITON_INTERPRET=1 in the environment runs it on a CPU, very slowly."
        )
    if device == "cuda" and dtype not in HALVES:  # their products would spill registers
        raise ValueError(
            f"On a GPU the back end 'triton' computes in float16 and bfloat16, got {dtype}. "
            "The back end 'torch' takes it."
        )
    from netllm_adapt.lora import triton_kernels as kernels

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


def threshold(share: float) -> int:
    """The random words below this one are dropped."""
    return round(share * 2**32)


def keep_mask(x: Tensor, share: float, seed: int) -> Tensor:
    """1 where an element of ``x`` survives dropout, else 0; the stream of `tl.rand`."""
    out = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    rows, width = x.numel() // max(x.shape[-1], 1), x.shape[-1]
    with torch.cuda.device_of(x):
        _kernels(x.device.type).keep[(-(-rows // 16), -(-width // 64))](
            out, rows, width, threshold(share), seed, BM=16, BN=64, enable_fp_fusion=True
        )
    return out


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
