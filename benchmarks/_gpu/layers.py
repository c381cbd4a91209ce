"""Single layers: errors, times, products, mixed batches, torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from netllm_adapt.lora import (
    Adapter,
    LoraLinear,
    chosen_backend,
    lora_linear,
    lora_linear_mixed,
    use_backend,
)
from netllm_adapt.lora.dropout import draw_mask
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from _gpu.timing import Place, Row, draw, median_ms

KINDS = "y", "dX"
"""The products of the forward and of the backward pass."""


def correctness(place: Place) -> Iterator[Row]:
    """Errors against double precision, of each back end and of the reference in the same dtype."""
    for dtype in (torch.bfloat16, torch.float16):
        for rank, share in ((1, 0.0), (16, 0.0), (128, 0.0), (32, 0.3)):
            m, k, n = place.rows // 4 + 3, place.width, place.width // 2
            rank = min(rank, n)
            shapes = ((m, k), (n, k), (n,), (rank, k), (n, rank))
            tensors = [draw(*shape, place=place, dtype=dtype) for shape in shapes]
            exact = _results([t.double() for t in tensors], "reference", share)
            row: Row = {"dtype": str(dtype), "rank": rank, "dropout": share}
            for backend in ("reference", *place.backends):
                found = _results(tensors, backend, share)
                row[backend] = max(map(_error, found, exact))
                again = _results(tensors, backend, share)
                row[f"{backend} repeats"] = all(map(torch.equal, found, again))
            yield row


def reference(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor,
    scale: float, share: float = 0.0, seed: int = 0,
) -> Tensor:  # fmt: skip
    """The operation in its plainest form."""
    dropped = x
    if share:
        dropped = x * (draw_mask(x.detach(), share, seed) != 0) / (1 - share)
    return F.linear(x, weight, bias) + F.linear(scale * F.linear(dropped, a), b)


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def _results(tensors: list[Tensor], backend: str, share: float) -> list[Tensor]:
    own = [tensor.clone().requires_grad_() for tensor in tensors]
    if backend == "reference":
        y = reference(*own, 0.5, share, 7)
    else:
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


def operation(place: Place) -> Iterator[Row]:
    """Forward and backward pass of a layer: milliseconds, and the overhead over the frozen one."""
    x = draw(place.rows, place.width, place=place).requires_grad_()
    grad = draw(place.rows, place.width, place=place)
    for rank, share in ((16, 0.0), (32, 0.0), (64, 0.0), (128, 0.0), (32, 0.1), (128, 0.1)):
        ours = layer(LoraLinear, min(rank, place.width), share, torch.float32, place)
        modules: dict[str, Any] = {
            "frozen": ours.base_layer,
            "PEFT": layer(Linear, rank, share, torch.bfloat16, place),
            "PEFT default": layer(Linear, rank, share, torch.float32, place),
        }
        calls = {name: _both(module, x, grad) for name, module in modules.items()}
        for backend in place.backends:
            calls[backend] = _both(ours, x, grad, backend)
        times = median_ms(calls, place)
        serves = chosen_backend(x, ours.base_layer.weight, ours.lora_A["default"].weight)
        own = times[serves]
        yield (
            {"rank": rank, "dropout": share, **{f"{n} ms": t for n, t in times.items()}}
            | {"chosen": serves, "overhead": own / times["frozen"] - 1}
            | {f"{name} / ours": times[name] / own for name in ("PEFT", "PEFT default")}
        )


def _both(module: Any, x: Tensor, grad: Tensor, backend: str | None = None) -> Callable[[], None]:
    """Forward and backward pass; of `backend` None the operation chooses."""
    leaves = x, *module.parameters()

    def call() -> None:
        _clear(leaves)
        module(x).backward(grad)

    def forced() -> None:
        with use_backend(backend):
            call()

    return forced if backend else call


def _clear(leaves: Iterable[Tensor]) -> None:
    """Otherwise the next backward pass would read and rewrite the gradients of the last."""
    for leaf in leaves:
        leaf.grad = None


def products(place: Place) -> Iterator[Row]:
    """Our main product, with its low-rank epilogue, against cuBLAS without one."""
    from netllm_adapt.lora import triton_launch

    w = draw(place.width, place.width, place=place)
    x = draw(place.rows, place.width, place=place)
    for rank in (16, 64, 128):
        u, v = draw(place.rows, rank, place=place), draw(place.width, rank, place=place)
        v_t = v.t().contiguous()
        calls = {
            "cuBLAS y": lambda: x @ w.t(),
            "ours y": lambda u=u, v=v: triton_launch.gemm(x, w.t(), u, v.t(), None),
            "cuBLAS dX": lambda: x @ w,
            "ours dX": lambda u=u, v_t=v_t: triton_launch.gemm(x, w, u, v_t, None),
        }
        times = median_ms(calls, place)
        ratios = {f"ours / cuBLAS {p}": times[f"ours {p}"] / times[f"cuBLAS {p}"] for p in KINDS}
        yield {"rank": rank, **{f"{n} ms": t for n, t in times.items()}, **ratios}


def mixed(place: Place) -> Iterator[Row]:
    """Three adapters in a batch against one adapter of the same rank on as many tokens."""
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
        leaves = [x, *(matrix for m in mats for matrix in (m.a, m.b))]

        def one(m: Adapter = mats[0], leaves: list[Tensor] = leaves) -> None:
            _clear(leaves)
            lora_linear(x, w, None, m.a, m.b, 1.0).backward(grad)

        def three(mats: list[Adapter] = mats, leaves: list[Tensor] = leaves) -> None:
            _clear(leaves)
            lora_linear_mixed(x, w, None, mats, ids).backward(grad)

        times = median_ms({"one": one, "three": three}, place)
        yield (
            {"rank": rank, **{f"{name} ms": value for name, value in times.items()}}
            | {"three / one": times["three"] / times["one"]}
            | _mixed_errors(x, w, mats, ids)
        )


@torch.no_grad()
def _mixed_errors(x: Tensor, w: Tensor, mats: list[Adapter], ids: Tensor) -> dict[str, float]:
    """Errors of the outputs against double precision, and of the reference adapter by adapter."""

    def apart(dtype: torch.dtype) -> Tensor:
        rows = [x[ids == i].to(dtype) for i in range(len(mats))]
        pairs = [(m.a.to(dtype), m.b.to(dtype)) for m in mats]
        given = zip(rows, pairs, strict=True)
        return torch.cat([reference(r, w.to(dtype), None, *p, 1.0) for r, p in given])

    exact = apart(torch.float64)
    found = {"mixed": lora_linear_mixed(x, w, None, mats, ids), "reference": apart(x.dtype)}
    return {name: _error(y, exact) for name, y in found.items()}


def compiled(place: Place) -> Iterator[Row]:
    """A layer under torch.compile(fullgraph=True), ours and PEFT's, against eager code."""
    x = draw(place.rows, place.width, place=place).requires_grad_()
    grad = draw(place.rows, place.width, place=place)
    layers = {
        "ours": layer(LoraLinear, 32, 0.0, torch.float32, place),
        "PEFT": layer(Linear, 32, 0.0, torch.bfloat16, place),
        "PEFT default": layer(Linear, 32, 0.0, torch.float32, place),
    }
    for name, module in layers.items():
        call = torch.compile(module, fullgraph=name == "ours")
        times = median_ms(
            {"eager": _both(module, x, grad), "compiled": _both(call, x, grad)}, place
        )
        yield {"layer": name, **{f"{way} ms": value for way, value in times.items()}}
