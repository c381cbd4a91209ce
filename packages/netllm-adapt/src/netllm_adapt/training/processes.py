"""Several processes that share a run, each with its part of the work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=3)
"""How long processes wait for one that is slower, such as at the end of a validation."""


def joined_processes(device: str | torch.device) -> Accelerator:
    """This process among those that share its run: all that `torchrun` or `accelerate` launched.

    Accelerate takes several processes for one each unless it is told that they have no GPU.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    patient = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    alone = str(device) == "cpu" or not torch.accelerator.is_available()
    return Accelerator(device_placement=False, cpu=alone, kwargs_handlers=[patient])


def stream_seed(seed: int, step: int, process: int = 0) -> int:
    """Seed of what a process draws at a step, such as dropout.

    Processes that share a run draw differently, and a resumed run draws what the unbroken one
    would have.
    """
    return hash((seed, step, process) if process else (seed, step)) % 2**63


def own_share(items: Sequence[T]) -> Sequence[T]:
    """Every n-th of the items in each of n processes, so that each is in one; all in a single."""
    if not distributed.is_initialized():
        return items
    return items[distributed.get_rank() :: distributed.get_world_size()]


def of_all(items: Sequence[T]) -> list[T]:
    """What every process gives, the same list in each; they must all call it."""
    if not distributed.is_initialized():
        return list(items)
    found: list[Sequence[T]] = [()] * distributed.get_world_size()
    distributed.all_gather_object(found, items)
    return [item for some in found for item in some]
