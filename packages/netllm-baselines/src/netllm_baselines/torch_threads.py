"""How torch computes while a rival is trained (needs the extra `learned`)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def few_threads(threads: int) -> Iterator[None]:
    """Few threads, and bfloat16 products where the processor has them (twice as fast there)."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
