"""Every Triton kernel compiles for the A100 and the H100, without a GPU, and fits their SMs.

The compiler checks neither shared memory nor spills: the former is in its metadata, the latter is
what cuobjdump, which comes with Triton, reads from the binary.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from netllm_adapt.lora._tiles import Tile, tiles_for

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
)  # fmt: skip


def _case(kind: str, rank: int, arch: int) -> tuple[Any, dict[str, Any], Tile]:
    from netllm_adapt.lora import _kernels

    name, drops, forward = kind.split()[0], kind.endswith("dropout"), kind.endswith("for y")
    table = tiles_for(arch)
    tile = table.gemm_drops if name == "gemm" and drops else getattr(table, name)
    constants = {
        "R": rank, "PRECISION": "tf32", "DROPS": drops, "EVEN_K": True, "HAS_BIAS": forward,
        "Q_BY_K": forward, "V_BY_R": forward, "GROUP": 8,
        "BM": tile.bm, "BN": tile.bn, "BK": tile.bk,
    }  # fmt: skip
    kernel = getattr(_kernels, name)
    return kernel, {n: v for n, v in constants.items() if n in kernel.arg_names}, tile


def _type(name: str, kernel: str) -> str:
    if name in INTEGERS:
        return INTEGERS[name]
    if name in ("x", "a", "b", "s", "p", "q", "u", "v", "bias", "c", "dy", *FLOATS):
        return "*fp32" if name in FLOATS and (kernel, name) != ("grad_a", "ds") else "*bf16"
    return "i32"


def _compile(kind: str, rank: int, arch: int) -> Any:
    """The binary, as for sides in multiples of 16."""
    kernel, constants, tile = _case(kind, rank, arch)
    signature = {
        name: "constexpr" if name in constants else _type(name, kind.split()[0])
        for name in kernel.arg_names
    }
    even = [i for i, name in enumerate(signature) if signature[name][0] == "*" or name in EVEN]
    source = triton.compiler.ASTSource(
        fn=kernel,
        signature=signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in even},
    )
    target = triton.backends.compiler.GPUTarget("cuda", arch, 32)
    options = {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True}
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
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_compiles_without_spills_within_shared_memory(
    kind: str, rank: int, arch: int, tmp_path: Path
) -> None:
    binary = _compile(kind, rank, arch)
    assert binary.metadata.shared <= SHARED[arch]
    assert _spilled(binary, tmp_path) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_safe_tiles_fit_a_gpu_that_nobody_tuned(kind: str, tmp_path: Path) -> None:
    binary = _compile(kind, 128, 86)
    assert binary.metadata.shared <= SHARED[86]
    assert _spilled(binary, tmp_path) == 0
