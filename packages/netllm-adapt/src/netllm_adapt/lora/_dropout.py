import torch
from jaxtyping import Float, Int16
from torch import Tensor

from netllm_adapt.lora import _philox, _triton

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def draw_seed() -> int:
    """A seed from torch's global CPU stream, so that a run's own seeding decides it."""
    return int(torch.randint(2**62, ()))


def draw_mask(x: Tensor, share: float, seed: int) -> Int16[Tensor, "..."]:
    """-1 (all bits) where an element of ``x`` survives a dropout of ``share``, else 0.

    A function of the seed and the kind of device alone, so that a back end can draw again what
    another drew. On CPU each element takes 16 bits of a random stream, fewer than the Bernoulli
    draws of ``F.dropout``. Elsewhere it is the Philox stream of the Triton kernels.
    """
    if x.device.type != "cpu":
        draw = _triton.keep_mask if x.is_cuda and _triton.installed() else _philox.keep_mask
        return draw(x, share, seed).to(torch.int16).neg_()
    generator = torch.Generator(x.device).manual_seed(seed)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
    words.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    return bits.ge_(round(share * 2**16) - 2**15).neg_()


def masked(x: Float[Tensor, "*shape"], mask: Int16[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` where the mask has its bits, else 0; not scaled, and unknown to autograd."""
    whole = _INTEGERS[x.element_size()]
    return (x.view(whole) & mask.to(whole)).view(x.dtype)
