"""Every Triton kernel compiles for the A100 and the H100, without a GPU, and fits their SMs.

The compiler checks neither shared memory nor spills: the former is in its metadata, the latter is
what cuobjdump, which comes with Triton, reads from the binary.
"""

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from netllm_adapt.lora.triton_launch import _SMALL_RANK, tiles_for

triton = pytest.importorskip("triton", reason="the extra netllm-adapt[triton] is not installed")

# NVIDIA's tuning guides: 163 and 227 KiB of shared memory for one block, 99 on the GPUs between.
SHARED = {80: 166_912, 86: 101_376, 90: 232_448}
RANKS = (16, 32, 64, 128)
INTEGERS = {"seed": "i64", "threshold": "i64", "factor": "fp32"}
FLOATS = {"ds", "db", "da"}
EVEN = {"k", "n", "r", "lead_q", "lead_v", "columns_each", "rows_each"}
KINDS = (
    "shrink", "shrink with dropout", "gemm for y", "gemm for dX", "gemm for dX with dropout",
    "grads_of_small", "grad_a", "grad_a with dropout",
    "gemm for y of several", "gemm for dX of several",
)  # fmt: skip


class Case(NamedTuple):
    """A launch, by default on a large model's square layer."""

    kind: str
    rank: int = 128
    width: int = 4096
    dtype: str = "bf16"
    bias: bool = True
    turned: bool = False
    """Whether the weight is transposed, as GPT-2 keeps it."""

    @property
    def name(self) -> str:
        return self.kind.split()[0]


def _cases(*kinds: str, **fields: Any) -> list[Case]:
    """At ranks that they are launched for: small ones, or of several adapters multiples of 16."""
    rank = fields.get("rank", 128)
    ranks = {"grads_of_small": min(rank, _SMALL_RANK)}
    ranks |= {kind: -(-rank // 16) * 16 for kind in KINDS if kind.endswith("several")}
    return [Case(kind, **fields | {"rank": ranks.get(kind, rank)}) for kind in kinds]


GRID = sorted({case for rank in RANKS for case in _cases(*KINDS, rank=rank)})
# Sides are multiples of 16, ranks are any: 528 is no multiple of a tile's side, 100 not of 16.
OTHERS = [
    *(case for width in (576, 1536) for case in _cases(*KINDS[:5], width=width)),
    *_cases(*KINDS, width=528, rank=100),
    *_cases(*KINDS[2:4], width=528, rank=24),
    *_cases(*KINDS, rank=8),
    *_cases(*KINDS[2:5], turned=True),
    *_cases("gemm for y", bias=False),
    *_cases(*KINDS, dtype="fp16"),
    Case("keep", dtype="i8"),
]


def _launch(case: Case, arch: int) -> tuple[Any, dict[str, Any], dict[str, int]]:
    """The kernel, its constants and the compiler's options."""
    from netllm_adapt.lora import triton_kernels

    kernel, options = getattr(triton_kernels, case.name), {"enable_fp_fusion": True}
    if case.name == "keep":
        return kernel, {"BM": 16, "BN": 64}, options
    drops, mixes = case.kind.endswith("dropout"), case.kind.endswith("several")
    forward = "for y" in case.kind
    tile = getattr(tiles_for(arch), case.name)
    if case.name == "gemm":
        tile = tiles_for(arch).gemm_for(case.rank, drops=drops, mixes=mixes)
    constants = {
        "R": max(16, 1 << (case.rank - 1).bit_length()), "PRECISION": "tf32", "DROPS": drops,
        "EVEN_K": tile.bk > 0 and case.width % tile.bk == 0, "HAS_BIAS": forward and case.bias,
        "Q_BY_K": forward != case.turned, "V_BY_R": forward, "GROUP": 8, "MIXES": mixes,
        "BM": tile.bm, "BN": tile.bn, "BK": tile.bk,
    }  # fmt: skip
    options |= {"num_warps": tile.warps, "num_stages": tile.stages}
    return kernel, {n: v for n, v in constants.items() if n in kernel.arg_names}, options


def _type(name: str, case: Case) -> str:
    if name in INTEGERS:
        return INTEGERS[name]
    if name == "ids":
        return "*i32"
    if name in ("x", "a", "b", "s", "p", "q", "u", "v", "bias", "c", "dy", "out", *FLOATS):
        sums = name in FLOATS and (case.name, name) != ("grad_a", "ds")
        return "*fp32" if sums else f"*{case.dtype}"
    return "i32"


def _compile(case: Case, arch: int) -> Any:
    kernel, constants, options = _launch(case, arch)
    signature = {
        name: "constexpr" if name in constants else _type(name, case) for name in kernel.arg_names
    }
    # `lead_v` is the rank for Bᵀ, and a side for A.
    by_rank = {"r", "lead_v"} if "for y" in case.kind else {"r"}
    sixteens = EVEN - by_rank if case.rank % 16 else EVEN
    even = [i for i, name in enumerate(signature) if signature[name][0] == "*" or name in sixteens]
    source = triton.compiler.ASTSource(
        fn=kernel,
        signature=signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in even},
    )
    target = triton.backends.compiler.GPUTarget("cuda", arch, 32)
    return triton.compile(source, target=target, options=options)


def _spilled(binary: Any, folder: Path) -> int:
    """Bytes of stack per thread."""
    import triton.backends.nvidia as nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip(f"this Triton brings no {tool.name}")
    file = folder / "kernel.cubin"
    file.write_bytes(binary.asm["cubin"])
    told = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True)
    stacks = re.findall(r"STACK:(\d+)", told.stdout)
    assert len(stacks) == 1, told.stdout
    return int(stacks[0])


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("case", GRID + OTHERS, ids=str)
def test_a_kernel_compiles_without_spills_within_shared_memory(
    case: Case, arch: int, tmp_path: Path
) -> None:
    binary = _compile(case, arch)
    assert binary.metadata.shared <= SHARED[arch]
    assert _spilled(binary, tmp_path) == 0


@pytest.mark.parametrize("case", _cases(*KINDS), ids=str)
def test_the_safe_tiles_fit_a_gpu_that_nobody_tuned(case: Case, tmp_path: Path) -> None:
    binary = _compile(case, 86)
    assert binary.metadata.shared <= SHARED[86]
    assert _spilled(binary, tmp_path) == 0
