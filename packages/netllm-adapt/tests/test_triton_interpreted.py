"""The Triton kernels against the formula in double precision, in Triton's interpreter."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt.lora import lora_linear, use_backend
from netllm_adapt.lora.triton_launch import _kernels, one_pass, tiles_for

SCRIPT = Path(__file__).parent / "parts" / "triton_cases.py"
CASES = [
    f"{name}, {dtype}"
    for name in (
        "plain",
        "rank 1, bias",
        "rank 24, transposed weight",
        "ragged sides",
        "dropout",
        "dropout, ragged sides",
    )
    for dtype in ("float32", "float16")
]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Triton decides at its import whether it interprets, hence the process of its own."""
    pytest.importorskip("triton", reason="the extra netllm-adapt[triton] is not installed")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_case_is_run(results: dict[str, Any]) -> None:
    assert sorted(results["cases"]) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_kernels_are_as_accurate_as_eager_code(results: dict[str, Any], case: str) -> None:
    # KERNELS.md, "Testing": 1.25 times the error of eager code in the same dtype; some of the
    # smallest fp32 cases sum so few numbers that eager code is at the rounding of the result, and
    # which of the two is nearer depends on the processor: good kernels have up to 3.4e-7.
    ours, eager = results["cases"][case]["ours"], results["cases"][case]["eager"]
    floor = 3.4e-7 if case.endswith("float32") else 0
    assert {n: e for n, e in ours.items() if e > max(1.25 * eager[n], floor)} == {}


@pytest.mark.parametrize("case", CASES)
def test_kernels_repeat_bit_by_bit(results: dict[str, Any], case: str) -> None:
    assert results["cases"][case]["repeats"]


def test_rows_of_several_adapters_are_as_accurate_as_eager_code(results: dict[str, Any]) -> None:
    for name, found in results["mixed"].items():
        floor = 3.4e-7 if name.startswith("float32") else 0
        bounds = [max(1.25 * error, floor) for error in found["eager"]]
        assert all(e <= b for e, b in zip(found["ours"], bounds, strict=True)), (name, found)
        assert found["repeats"], name
        assert found["products by torch"] == 0, name


def test_the_small_gradients_are_exact_with_the_output_read_once_or_twice(
    results: dict[str, Any],
) -> None:
    # A gradient of one product has no error to speak of, in any order of its sum.
    for shape, found in results["small"].items():
        for way, errors in found["ours"].items():
            bounds = [max(1.25 * error, 5e-4) for error in found["eager"]]
            assert all(e <= b for e, b in zip(errors, bounds, strict=True)), (shape, way, errors)
        assert found["repeats"], shape


def test_sums_of_the_small_gradients_take_bounded_memory(results: dict[str, Any]) -> None:
    taken = results["sums"]
    # Read twice, 2 x 128 programs of 32 columns write (64, 64) numbers each, however many the rows.
    assert taken["4096, 64"] == taken["8192, 64"] == 128 * 64 * 64 * 4
    # Read once, no more than half of dY, (rows, 64) in float16.
    assert taken["4096, 2"] <= 4096 * 64
    assert taken["8192, 2"] <= 8192 * 64


@pytest.mark.parametrize("arch", [0, 80, 90])
def test_the_output_is_read_once_where_that_is_less_traffic(arch: int) -> None:
    tile = tiles_for(arch).grads_of_small
    for m, n, r in product((512, 4100, 8192, 2**17), (64, 576, 4096), (1, 8, 16, 32)):
        grid = one_pass(m, n, r, 2, tile)
        if grid is not None:
            down, across = grid
            assert down * tile.bm >= m
            assert (down * n * r + across * m * r) * 4 * 2 < m * n * 2
    assert one_pass(8192, 4096, 64, 2, tile) is None


def test_sums_at_rank_32_on_an_h100() -> None:
    # 16 blocks of 512 rows write (4096, 32) numbers each, 8 blocks of columns (8192, 32): 16 MiB,
    # where 64 blocks of 128 rows and 4 of columns were 36.
    assert one_pass(8192, 4096, 32, 2, tiles_for(90).grads_of_small) == (16, 8)


def test_on_a_gpu_the_back_end_refuses_float32() -> None:
    pytest.importorskip("triton", reason="the extra netllm-adapt[triton] is not installed")
    with pytest.raises(ValueError, match=r"float16 and bfloat16, got torch.float32.*'torch'"):
        _kernels("cuda", torch.float32)


def test_the_stream_in_plain_pytorch_is_the_kernels(results: dict[str, Any]) -> None:
    assert set(results["stream"].values()) == {True}


def test_without_a_gpu_the_back_end_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="the extra netllm-adapt[triton] is not installed")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x, w, a = torch.ones(4, 8), torch.ones(8, 8), torch.ones(2, 8)
    with use_backend("triton"), pytest.raises(ValueError, match="on a CUDA GPU, got cpu"):
        lora_linear(x, w, None, a, a.t(), 1.0)


def test_without_triton_the_back_end_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from netllm_adapt.lora import triton_launch

    monkeypatch.setattr(triton_launch, "installed", lambda: False)
    triton_launch._kernels.cache_clear()
    x, w, a = torch.ones(4, 8), torch.ones(8, 8), torch.ones(2, 8)
    with use_backend("triton"), pytest.raises(ModuleNotFoundError, match=r"netllm-adapt\[triton\]"):
        lora_linear(x, w, None, a, a.t(), 1.0)
