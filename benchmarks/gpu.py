"""Everything that needs a GPU, in one run of under eight minutes.

    python benchmarks/gpu.py [--quick] [--json FILE]

Prints a table per part and goes on when a part fails; the results carry the card's name. Times are
medians between CUDA events, ways in turn. `--device cpu` rehearses the script at tiny sizes. Exits
with 1 if a part failed, or if there is no GPU.

The goals are those of the project's plan for an H100: an overhead over the frozen layer of at most
12 % (rank up to 32) and 16 % (rank 128), at least 1.33 times PEFT, 1.45 with dropout, 1.9 times
PEFT's default of float32 matrices, and the main product within 3 % of cuBLAS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from netllm_adapt.lora import Adapter, LoraLinear, lora_linear, lora_linear_mixed, use_backend
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

BUDGET_S = 450


@dataclass(frozen=True)
class Place:
    """Where and how large."""

    device: str
    rows: int
    width: int
    repeats: int

    @property
    def backends(self) -> tuple[str, ...]:
        return ("torch", "triton") if self.device == "cuda" else ("torch",)


def median_ms(calls: dict[str, Callable[[], Any]], place: Place) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(place.repeats + 3):
        for name, call in calls.items():
            spent = _once(call, place.device)
            if turn >= 3:  # compiling and warming up
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def _once(call: Callable[[], Any], device: str) -> float:
    if device != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last))


def draw(*shape: int, place: Place, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, device=place.device, dtype=torch.float32).to(dtype)


def correctness(place: Place) -> list[dict[str, Any]]:
    """Errors against double precision, of each back end and of the reference in the same dtype."""
    rows = []
    for dtype in (torch.bfloat16, torch.float16):
        for rank, share in ((1, 0.0), (16, 0.0), (128, 0.0), (32, 0.3)):
            m, k, n = place.rows // 4 + 3, place.width, place.width // 2
            rank = min(rank, n)
            shapes = ((m, k), (n, k), (n,), (rank, k), (n, rank))
            tensors = [draw(*shape, place=place, dtype=dtype) for shape in shapes]
            exact = _results([t.double() for t in tensors], "reference", share)
            row: dict[str, Any] = {"dtype": str(dtype), "rank": rank, "dropout": share}
            for backend in ("reference", *place.backends):
                found = _results(tensors, backend, share)
                row[backend] = max(
                    float((f.double() - e).norm() / e.norm())
                    for f, e in zip(found, exact, strict=True)
                )
                again = _results(tensors, backend, share)
                row[f"{backend} repeats"] = all(map(torch.equal, found, again))
            rows.append(row)
    return rows


def _results(tensors: list[Tensor], backend: str, share: float) -> list[Tensor]:
    own = [tensor.clone().requires_grad_() for tensor in tensors]
    with use_backend(backend):
        y = lora_linear(*own, 0.5, dropout=share, seed=7)
        y.backward(torch.ones_like(y))
    return [y.detach(), *(t.grad for t in own if t.grad is not None)]


def layer(kind: type[Linear], rank: int, share: float, dtype: torch.dtype, place: Place) -> Linear:
    base = nn.Linear(place.width, place.width, bias=False, device=place.device)
    base = base.to(torch.bfloat16).requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=share)
    built = kind(base, "default", config, r=rank, lora_alpha=2 * rank).to(place.device)
    for matrices in (built.lora_A, built.lora_B):
        matrices.to(dtype)
    return built


def operation(place: Place) -> list[dict[str, Any]]:
    """Forward and backward pass of a layer: milliseconds, and the overhead over the frozen one."""
    rows = []
    x = draw(place.rows, place.width, place=place).requires_grad_()
    grad = draw(place.rows, place.width, place=place)
    for rank, share in ((16, 0.0), (32, 0.0), (64, 0.0), (128, 0.0), (32, 0.1)):
        rank = min(rank, place.width)
        ours = layer(LoraLinear, rank, share, torch.float32, place)
        modules: dict[str, Any] = {
            "frozen": ours.base_layer,
            "PEFT": layer(Linear, rank, share, torch.bfloat16, place),
            "PEFT default": layer(Linear, rank, share, torch.float32, place),
        }
        calls = {name: _both(module, x, grad) for name, module in modules.items()}
        for backend in place.backends:
            calls[backend] = _both(ours, x, grad, backend)
        times = median_ms(calls, place)
        best = min(times[backend] for backend in place.backends)
        rows.append(
            {"rank": rank, "dropout": share, **{f"{n} ms": t for n, t in times.items()}}
            | {"overhead": best / times["frozen"] - 1, "PEFT / ours": times["PEFT"] / best}
            | {"PEFT default / ours": times["PEFT default"] / best}
        )
    return rows


def _both(module: Any, x: Tensor, grad: Tensor, backend: str = "torch") -> Callable[[], None]:
    def call() -> None:
        with use_backend(backend):
            module(x).backward(grad)

    return call


def products(place: Place) -> list[dict[str, Any]]:
    """Our main product, with its low-rank epilogue, against cuBLAS without one."""
    from netllm_adapt.lora import _triton

    rows = []
    w = draw(place.width, place.width, place=place)
    x = draw(place.rows, place.width, place=place)
    for rank in (16, 64, 128):
        u, v = draw(place.rows, rank, place=place), draw(place.width, rank, place=place)
        calls = {
            "cuBLAS y": lambda: x @ w.t(),
            "ours y": lambda u=u, v=v: _triton.gemm(x, w.t(), u, v.t(), None),
            "cuBLAS dX": lambda: x @ w,
            "ours dX": lambda u=u, v=v: _triton.gemm(x, w, u, v.t().contiguous(), None),
        }
        times = median_ms(calls, place)
        rows.append({"rank": rank, **{f"{name} ms": value for name, value in times.items()}})
    return rows


def mixed(place: Place) -> list[dict[str, Any]]:
    """Three adapters in a batch against one adapter of the same rank on as many tokens."""
    rows = []
    x = draw(12, place.rows // 12, place.width, place=place).requires_grad_()
    w = draw(place.width, place.width, place=place)
    grad = draw(*x.shape, place=place)
    ids = torch.arange(3).repeat_interleave(4)
    for rank in (16, 64):
        sides = (rank, place.width), (place.width, rank)
        mats = [
            Adapter(*(draw(*side, place=place).requires_grad_() for side in sides), 1.0)
            for _ in range(3)
        ]
        calls = {
            "one": lambda m=mats[0]: lora_linear(x, w, None, m.a, m.b, 1.0).backward(grad),
            "three": lambda m=mats: lora_linear_mixed(x, w, None, m, ids).backward(grad),
        }
        times = median_ms(calls, place)
        rows.append(
            {"rank": rank, **{f"{name} ms": value for name, value in times.items()}}
            | {"three / one": times["three"] / times["one"]}
        )
    return rows


def compiled(place: Place) -> list[dict[str, Any]]:
    """A layer under torch.compile(fullgraph=True) against eager code."""
    x = draw(place.rows, place.width, place=place).requires_grad_()
    grad = draw(place.rows, place.width, place=place)
    ours = layer(LoraLinear, 32, 0.0, torch.float32, place)
    call = torch.compile(ours, fullgraph=True)
    times = median_ms({"eager": _both(ours, x, grad), "compiled": _both(call, x, grad)}, place)
    return [{f"{name} ms": value for name, value in times.items()}]


PARTS = {
    "correctness": correctness,
    "operation": operation,
    "products": products,
    "mixed": mixed,
    "compiled": compiled,
}


def table(rows: list[dict[str, Any]]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.3f}"
        return str(value)

    widths = [max(len(key), *(len(cell(row[key])) for row in rows)) for key in rows[0]]
    lines = [rows[0].keys(), *(map(cell, row.values()) for row in rows)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(x, widths, strict=True)) for x in lines)


def run(place: Place) -> tuple[dict[str, Any], list[str]]:
    results, failed = {}, []
    begun = time.monotonic()
    for name, part in PARTS.items():
        print(f"\n{name}: {part.__doc__}", flush=True)
        if time.monotonic() - begun > BUDGET_S:
            failed.append(name)
            print("left out: the time is spent")
            continue
        try:
            results[name] = part(place)
            print(table(results[name]), flush=True)
        except Exception:
            failed.append(name)
            print(traceback.format_exc(limit=3), flush=True)
    return results, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller layers, fewer repeats")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: nothing was measured. `--device cpu` rehearses the script without one.")
        raise SystemExit(1)
    place = Place("cuda", 8192, 4096, 20)
    if args.quick:
        place = Place("cuda", 2048, 2048, 5)
    if args.device == "cpu":
        place = Place("cpu", 96, 256, 2)
    card = torch.cuda.get_device_name() if args.device == "cuda" else "cpu, a rehearsal"
    print(f"{card}, torch {torch.__version__}, {place.rows} rows, width {place.width}, bfloat16")
    results, failed = run(place)
    if args.json:
        whole = {"card": card, "torch": torch.__version__, "failed": failed, "parts": results}
        args.json.write_text(json.dumps(whole, indent=2) + "\n")
    print(
        f"{card}: {len(results)} of {len(PARTS)} parts done; failed: {', '.join(failed) or 'none'}"
    )
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
