"""Dropout masks by seed: drawn again in the backward pass instead of kept.

On CPU a mask takes 16 bits of torch's stream for each element, fewer than the Bernoulli draws of
``F.dropout``. On a GPU it is the Philox stream of the Triton kernels, so that both back ends drop
the same; where there is no Triton it is that of torch's CPU stream.
"""

import torch
from jaxtyping import Float, Int16
from torch import Tensor

from netllm_adapt.lora import triton_launch

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def draw_mask(x: Tensor, share: float, seed: int) -> Int16[Tensor, "..."] | None:
    """-1 (all bits) where an element of ``x`` survives a dropout of ``share``, else 0.

    A function of the seed and the kind of device alone; None if nothing is dropped.
    """
    if not share:
        return None
    if x.is_cuda and triton_launch.installed():
        return triton_launch.keep_mask(x, share, seed).to(torch.int16).neg_()
    generator = torch.Generator().manual_seed(seed)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    return bits.ge_(round(share * 2**16) - 2**15).neg_().to(x.device)


def masked(
    x: Float[Tensor, "*shape"], mask: Int16[Tensor, "*shape"] | None
) -> Float[Tensor, "*shape"]:
    """``x`` where the mask has its bits, else 0; not scaled, and unknown to autograd."""
    if mask is None:
        return x
    whole = _INTEGERS[x.element_size()]
    return (x.view(whole) & mask.to(whole)).view(x.dtype)
