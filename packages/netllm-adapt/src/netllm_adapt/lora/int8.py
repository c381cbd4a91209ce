"""Products with frozen weights in 8 bits, for training on processors that multiply such fast.

Both factors are rounded: each row of what passes, and each output of the weight (for gradients,
each input), to 255 steps of its own size; sums are exact, results come in the dtype of what passes.
The low-rank matrices, their gradients and everything between the products stay as they are.

Source: SwitchBack (Wortsman et al., NeurIPS 2023), which also takes int8 for the outputs and the
gradients of inputs, and not for those of weights: here weights have none. Scales by rows and
columns, as in LLM.int8 (Dettmers et al., NeurIPS 2022), section 2.1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor

_STEPS = 127
_on: ContextVar[bool] = ContextVar("netllm_int8_products", default=False)


class Rounded(NamedTuple):
    """A matrix in 8 bits: ``numbers·scale``."""

    numbers: Int8[Tensor, "row width"]
    scale: Float[Tensor, "row 1"]


@contextmanager
def int8_products() -> Iterator[None]:
    """Compute products with frozen weights in int8 in this context, both passes.

    Two rounded copies of each weight, a byte per number, are held as long as the weight lives.

    Raises:
        ValueError: If this processor has no fast ones.
    """
    check_int8()
    token = _on.set(True)
    try:
        yield
    finally:
        _on.reset(token)


def in_int8() -> bool:
    """Whether `int8_products` is on."""
    return _on.get()


def has_int8() -> bool:
    """Whether this processor multiplies int8 faster than bfloat16, and torch lets it."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


def check_int8(device: str = "cpu") -> None:
    """Raise unless a device multiplies int8 faster than bfloat16 here.

    Raises:
        ValueError: If not.
    """
    if device != "cpu":
        raise ValueError(f"Products in int8 are for CPUs, got {device!r}. Leave them out.")
    if not has_int8():
        raise ValueError(
            "Products in int8 need a processor with AVX512-VNNI and torch with oneDNN; this one "
            f"has {torch.backends.cpu.get_cpu_capability()} alone. Leave them out."
        )


def rounded(x: Float[Tensor, "row width"]) -> Rounded:
    """Each row in steps of its largest number's 127th."""
    wide = x.to(torch.float32, copy=True)
    # In half the time of absolute values, which take memory of their own.
    scale = torch.maximum(wide.amax(1, keepdim=True), wide.amin(1, keepdim=True).neg_())
    scale = scale.div_(_STEPS).clamp_(min=torch.finfo(torch.float32).tiny)
    return Rounded(wide.mul_(1 / scale).round_().to(torch.int8), scale)


def int8_linear(
    x: Rounded, weight: Rounded, plus: Tensor | None, dtype: torch.dtype
) -> Float[Tensor, "row outputs"]:
    """``x·Wᵀ``, and `plus` if there is one."""
    y = torch._int_mm(x.numbers, weight.numbers.t()).float()
    y.mul_(x.scale).mul_(weight.scale[:, 0])
    return (y if plus is None else y.add_(plus)).to(dtype)
