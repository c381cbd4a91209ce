"""One product with a weight that may be frozen."""

from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, adapted: bool = True) -> Tensor:
    """``x·Wᵀ + bias``."""
    from netllm_adapt.lora.frozen_weights import linears

    return linears(x, [weight], [bias], adapted=[0] if adapted else [])[0]
