"""The Triton kernels against the formula in double precision, in Triton's interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt.lora import use_backend
from netllm_adapt.lora._op import lora_linear

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


def test_the_stream_in_plain_pytorch_is_the_kernels(results: dict[str, Any]) -> None:
    assert set(results["stream"].values()) == {True}


def test_without_a_gpu_the_back_end_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="the extra netllm-adapt[triton] is not installed")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x, w, a = torch.ones(4, 8), torch.ones(8, 8), torch.ones(2, 8)
    with use_backend("triton"), pytest.raises(ValueError, match="on a CUDA GPU, got cpu"):
        lora_linear(x, w, None, a, a.t(), 1.0)


def test_without_triton_the_back_end_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from netllm_adapt.lora import _triton

    monkeypatch.setattr(_triton, "installed", lambda: False)
    _triton._kernels.cache_clear()
    x, w, a = torch.ones(4, 8), torch.ones(8, 8), torch.ones(2, 8)
    with use_backend("triton"), pytest.raises(ModuleNotFoundError, match=r"netllm-adapt\[triton\]"):
        lora_linear(x, w, None, a, a.t(), 1.0)
