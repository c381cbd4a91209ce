"""Dropout masks by seed: drawn again in the backward pass instead of kept.

On CPU a mask takes 16 bits of torch's stream for each element, fewer than the Bernoulli draws of
``F.dropout``. Elsewhere it is the Philox stream of the Triton kernels, here in plain PyTorch too.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, Philox 4x32-10; the
counter's low word is the offset's, as in Triton.
"""

import torch
from jaxtyping import Bool, Float, Int, Int16
from torch import Tensor

from netllm_adapt.lora import triton_launch

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_LOW = 0xFFFFFFFF
_KEYS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 0xD2511F53, 0xCD9E8D57


def draw_seed() -> int:
    """A seed from torch's global CPU stream, so that a run's own seeding decides it."""
    return int(torch.randint(2**62, ()))


def draw_mask(x: Tensor, share: float, seed: int) -> Int16[Tensor, "..."]:
    """-1 (all bits) where an element of ``x`` survives a dropout of ``share``, else 0.

    A function of the seed and the kind of device alone.
    """
    if x.device.type != "cpu":
        kernel = x.is_cuda and triton_launch.installed()
        draw = triton_launch.keep_mask if kernel else philox_mask
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


def philox_mask(x: Tensor, share: float, seed: int) -> Bool[Tensor, "..."]:
    """Which elements of ``x``, seen as a matrix of its last axis, survive a dropout of ``share``.

    Element (i, j) has the offset ``i·2³² + j``.
    """
    width = x.shape[-1]
    rows = torch.arange(x.numel() // max(width, 1), device=x.device)
    columns = torch.arange(width, device=x.device)
    words = philox_words(seed, (rows[:, None] << 32) + columns)
    return (words >= triton_launch.threshold(share)).view(x.shape)


def philox_words(seed: int, offset: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """One unsigned 32-bit number for each offset, what ``tl.randint`` gives: ten rounds."""
    offset = offset.long()
    zero = torch.zeros_like(offset)
    counter = [offset & _LOW, offset >> 32 & _LOW, zero, zero]
    keys = [seed & _LOW, seed >> 32 & _LOW]
    for _ in range(10):
        high_b, low_b = _product(_ROUNDS[1], counter[2])
        high_a, low_a = _product(_ROUNDS[0], counter[0])
        counter = [high_b ^ counter[1] ^ keys[0], low_b, high_a ^ counter[3] ^ keys[1], low_a]
        keys = [(key + step) & _LOW for key, step in zip(keys, _KEYS, strict=True)]
    return counter[0]


def _product(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of an unsigned product, by halves of ``word``: int64 holds no more."""
    top, bottom = constant * (word >> 16), constant * (word & 0xFFFF)
    middle = (top << 16 & _LOW) + (bottom & _LOW)
    high = (top >> 16) + (bottom >> 32) + (middle >> 32)
    return high & _LOW, middle & _LOW
