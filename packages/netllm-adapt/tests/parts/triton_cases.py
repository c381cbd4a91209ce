"""Runs the Triton kernels in Triton's interpreter, a process of its own; prints errors as JSON.

Errors are Frobenius norms of the difference to the formula in double precision, relative to the
norm of what it gives: of the back end's results and of the eager formula's in the same dtype.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import triton
import triton.language as tl
from netllm_adapt.lora import Adapter, triton_backend, triton_launch, use_backend
from netllm_adapt.lora.layer_group import Matrices, Part
from netllm_adapt.lora.lora_linear import lora_linear_of_rows
from philox import philox_mask, philox_words
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NAMES = ("y", "x", "bias", "weight", "a", "b")
# rows, inputs, outputs, rank, bias, dropout, transposed weight
CASES = {
    "plain": (70, 96, 80, 16, False, 0.0, False),
    "rank 1, bias": (33, 64, 48, 1, True, 0.0, False),
    "rank 24, transposed weight": (65, 80, 112, 24, True, 0.0, True),
    "ragged sides": (19, 50, 37, 5, False, 0.0, False),
    "dropout": (70, 96, 80, 16, True, 0.3, False),
    "dropout, ragged sides": (41, 50, 37, 3, False, 0.5, True),
}
# rows, outputs, rank; 128 rows are a block of the kernel that reads dY once
SHAPES = (
    (1, 16, 1), (40, 48, 5), (256, 96, 8), (300, 208, 4), (517, 144, 13), (300, 80, 32),
    (257, 112, 64), (130, 64, 128),
)  # fmt: skip
SEED = 2**40 + 12345


@triton.jit
def _randint(out, seed, first, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.arange(0, SIZE)
    tl.store(out + at, tl.randint(seed, first + at.to(tl.int64)))


def formula(p: dict[str, Tensor | None], scale: float, keep: Tensor | None) -> Tensor:
    x, w, a, b = (p[name] for name in ("x", "weight", "a", "b"))
    assert x is not None
    assert w is not None
    assert a is not None
    assert b is not None
    hidden = x if keep is None else x * keep
    y = x @ w.t() + scale * (hidden @ a.t()) @ b.t()
    return y if p["bias"] is None else y + p["bias"]


def relative(got: Tensor, truth: Tensor) -> float:
    return ((got.detach().double() - truth.detach()).norm() / truth.detach().norm()).item()


def case(name: str, dtype: torch.dtype) -> dict[str, Any]:
    m, k, n, r, with_bias, share, turned = CASES[name]
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    weight = draw(k, n).t() if turned else draw(n, k)
    p = {
        "x": draw(m, k), "weight": weight, "bias": draw(n) if with_bias else None,
        "a": draw(r, k), "b": draw(n, r),
    }  # fmt: skip
    grad = draw(m, n)
    keep = None
    if share:
        keep = philox_mask(p["x"], share, SEED) / (1 - share)
    forms = []
    for kind in (torch.float64, dtype):
        q = {n: None if v is None else v.to(kind).requires_grad_() for n, v in p.items()}
        mask = None if keep is None else keep.to(kind)
        y = formula(q, 0.7, mask)
        y.backward(grad.to(kind))
        forms.append({"y": y.detach(), **{n: v.grad for n, v in q.items() if v is not None}})
    group = Matrices([weight], [p["a"]], [p["b"]]), [Part(0, 0.7 / (1 - share), share, seed=SEED)]
    (y,), smalls = triton_backend.forward(p["x"], [p["bias"]], *group)
    needs = (True, with_bias, True, True, True)
    grads = triton_backend.backward([grad], p["x"], *group, smalls, needs)
    ours = {"y": y, **dict(zip(("x", "bias", "weight", "a", "b"), grads, strict=True))}
    (again,), _ = triton_backend.forward(p["x"], [p["bias"]], *group)
    exact, eager = forms
    return {
        "ours": {name: relative(ours[name], exact[name]) for name in exact},
        "eager": {name: relative(eager[name], exact[name]) for name in exact},
        "repeats": torch.equal(y, again),
    }


def mixed(dtype: torch.dtype, turned: bool) -> dict[str, Any]:
    """Rows of three adapters of other ranks, in no order, and one of none, in one operation."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    x, weight, bias, grad = draw(7, 29, 48), draw(80, 48), draw(80), draw(7, 29, 80)
    weight = draw(48, 80).t() if turned else weight
    matrices = [matrix for r in (5, 24, 16) for matrix in (draw(r, 48), draw(80, r))]
    rows = [slice(4, 6), slice(6, 7), slice(0, 3)]
    forms = []
    for kind in (torch.float64, dtype):
        p = [v.to(kind).requires_grad_() for v in (x, bias, *matrices)]
        y = p[0] @ weight.to(kind).t() + p[1]
        for i, at in enumerate(rows):
            a, b = p[2 + 2 * i : 4 + 2 * i]
            y = y.index_add(0, torch.arange(7)[at], 0.7 * (p[0][at] @ a.t()) @ b.t())
        y.backward(grad.to(kind))
        forms.append([y.detach(), *(v.grad for v in p)])

    def run() -> list[Tensor]:
        p = [v.detach().clone().requires_grad_() for v in (x, bias, *matrices)]
        adapters = [Adapter(*p[i : i + 2], 0.7) for i in (2, 4, 6)]
        with use_backend("triton"):
            y = lora_linear_of_rows(p[0], weight, p[1], adapters, rows, ["mixed"] * 3)
        y.backward(grad)
        return [y.detach(), *(v.grad for v in p)]

    exact, eager = forms
    with Counted() as counted:
        ours = run()
    return {
        "ours": [relative(*pair) for pair in zip(ours, exact, strict=True)],
        "eager": [relative(*pair) for pair in zip(eager, exact, strict=True)],
        "repeats": all(map(torch.equal, ours, run())),
        "products by torch": counted.total,
    }


class Counted(TorchDispatchMode):
    """Counts torch's own products of matrices."""

    total = 0

    def __torch_dispatch__(  # type: ignore[no-untyped-def, override]
        self, func, types, args=(), kwargs=None
    ):
        self.total += "mm" in str(func)
        return func(*args, **kwargs or {})


class Allocated(TorchDispatchMode):
    """Adds up the bytes of the float32 tensors that are made."""

    total = 0

    def __torch_dispatch__(  # type: ignore[no-untyped-def, override]
        self, func, types, args=(), kwargs=None
    ):
        out = func(*args, **kwargs or {})
        if func is torch.ops.aten.new_empty.default and out.dtype == torch.float32:
            self.total += out.nbytes
        return out


def small_gradients(m: int, n: int, r: int) -> dict[str, Any]:
    """dS and dB by themselves, as they are launched, and for small ranks with dY read once."""
    generator = torch.Generator().manual_seed(11)
    dy, b, small = (
        torch.randn(shape, generator=generator).half() for shape in ((m, n), (n, r), (m, r))
    )
    exact = 0.5 * dy.double() @ b.double(), dy.double().t() @ small.double()
    eager = 0.5 * (dy @ b), dy.t() @ small
    found = {"as launched": lambda: triton_launch.grads_of_small(dy, b, small, 0.5)}
    if r <= 32:
        tile = triton_launch._tiles(dy.device).grads_of_small
        grid = -(-m // tile.bm), min(2, -(-n // tile.bn))
        found["once"] = lambda: triton_launch._in_one_pass(dy, b, small, 0.5, tile, *grid)
    return {
        "eager": [relative(got, truth) for got, truth in zip(eager, exact, strict=True)],
        "ours": {
            name: [relative(got, truth) for got, truth in zip(call(), exact, strict=True)]
            for name, call in found.items()
        },
        "repeats": all(all(map(torch.equal, call(), call())) for call in found.values()),
    }


def sums(m: int, n: int, r: int) -> int:
    """Bytes of float32 that the gradients of S and B allocate."""
    dy, b, small = (torch.ones(shape).half() for shape in ((m, n), (n, r), (m, r)))
    with Allocated() as allocated:
        triton_launch.grads_of_small(dy, b, small, 0.5)
    return allocated.total


def stream() -> dict[str, bool]:
    """Whether the plain PyTorch stream equals the kernels'."""
    equal = {}
    for seed, first in ((0, 0), (SEED, 2**33 + 7), (2**62 - 1, 2**31 - 64)):
        out = torch.empty(128, dtype=torch.int32)
        _randint[(1,)](out, seed, first, SIZE=128)
        mine = philox_words(seed, torch.arange(first, first + 128))
        equal[f"{seed}, {first}"] = torch.equal(out.long() & 0xFFFFFFFF, mine)
    x = torch.empty(3, 11, 70)
    drawn = triton_launch.keep_mask(x, 0.4, SEED)
    equal["mask"] = torch.equal(drawn != 0, philox_mask(x, 0.4, SEED))
    return equal


if __name__ == "__main__":
    results = {
        f"{name}, {dtype}".replace("torch.", ""): case(name, dtype)
        for name in CASES
        for dtype in (torch.float32, torch.float16)
    }
    small = {str(shape): small_gradients(*shape) for shape in SHAPES}
    taken = {f"{m}, {r}": sums(m, 64, r) for r in (2, 64) for m in (4096, 8192)}
    several = {
        f"{dtype}, {turned}".replace("torch.", ""): mixed(dtype, turned)
        for dtype in (torch.float32, torch.float16)
        for turned in (False, True)
    }
    print(
        json.dumps(
            {"mixed": several, "stream": stream(), "cases": results, "small": small, "sums": taken}
        )
    )
