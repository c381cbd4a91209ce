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
from netllm_adapt.lora import _backends, _philox, _triton
from torch import Tensor

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
    m, k, n, r, with_bias, dropout, turned = CASES[name]
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
    if dropout:
        keep = _philox.keep_mask(p["x"], dropout, SEED) / (1 - dropout)
    forms = []
    for kind in (torch.float64, dtype):
        q = {n: None if v is None else v.to(kind).requires_grad_() for n, v in p.items()}
        mask = None if keep is None else keep.to(kind)
        y = formula(q, 0.7, mask)
        y.backward(grad.to(kind))
        forms.append({"y": y.detach(), **{n: v.grad for n, v in q.items() if v is not None}})
    backend = _backends._backends["triton"]
    rest = 0.7, dropout, SEED if dropout else None
    y, small = backend.forward(*p.values(), *rest)
    grads = backend.backward(
        grad, p["x"], weight, p["a"], p["b"], small, *rest, (True, True, with_bias, True, True)
    )
    ours = {"y": y, **dict(zip(p, grads, strict=True))}
    again = backend.forward(*p.values(), *rest)[0]
    exact, eager = forms
    return {
        "ours": {name: relative(ours[name], exact[name]) for name in exact},
        "eager": {name: relative(eager[name], exact[name]) for name in exact},
        "repeats": torch.equal(y, again),
    }


def stream() -> dict[str, bool]:
    """Whether the plain PyTorch stream equals the kernels'."""
    equal = {}
    for seed, first in ((0, 0), (SEED, 2**33 + 7), (2**62 - 1, 2**31 - 64)):
        out = torch.empty(128, dtype=torch.int32)
        _randint[(1,)](out, seed, first, SIZE=128)
        mine = _philox.words(seed, torch.arange(first, first + 128))
        equal[f"{seed}, {first}"] = torch.equal(out.long() & 0xFFFFFFFF, mine)
    x = torch.empty(3, 11, 70)
    drawn = _triton.keep_mask(x, 0.4, SEED)
    equal["mask"] = torch.equal(drawn != 0, _philox.keep_mask(x, 0.4, SEED))
    return equal


if __name__ == "__main__":
    results = {
        f"{name}, {dtype}".replace("torch.", ""): case(name, dtype)
        for name in CASES
        for dtype in (torch.float32, torch.float16)
    }
    print(json.dumps({"stream": stream(), "cases": results}))
