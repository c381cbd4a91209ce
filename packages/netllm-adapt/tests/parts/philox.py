"""The random stream of the Triton kernels in plain PyTorch.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, Philox 4x32-10; the
counter's low word is the offset's, as in Triton.
"""

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_KEYS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 0xD2511F53, 0xCD9E8D57


def philox_mask(x: Tensor, share: float, seed: int) -> Tensor:
    """Which elements of ``x``, seen as a matrix of its last axis, survive a dropout of ``share``.

    Element (i, j) has the offset ``i·2³² + j``.
    """
    width = x.shape[-1]
    rows = torch.arange(x.numel() // max(width, 1), device=x.device)
    columns = torch.arange(width, device=x.device)
    words = philox_words(seed, (rows[:, None] << 32) + columns)
    return (words >= round(share * 2**32)).view(x.shape)


def philox_words(seed: int, offset: Tensor) -> Tensor:
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
