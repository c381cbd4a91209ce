"""Several processes that share a run, each with its part of the work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, distributed

from netllm_adapt.files.reading import first_line

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=3)
"""How long processes wait for one that is slower, such as at the end of a validation."""
LONGEST_STEP = timedelta(minutes=10)
"""How long they wait for one's gradients: later it hangs, or the network does."""


def joined_processes(device: str | torch.device) -> Accelerator:
    """This process among those that share its run: all that `torchrun` or `accelerate` launched.

    Accelerate takes several processes for one each unless it is told that they have no GPU.

    Raises:
        ValueError: if accelerate was told to share the model's weights itself.
        RuntimeError: if another process that was launched is not there.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    for engine in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{engine}", "false").lower() in ("true", "1"):
            raise ValueError(
                f"accelerate must not be told to use {engine}, which does not know frozen weights "
                "with low-rank matrices. Leave it out, and give `shard` (--shard)."
            )

    patient = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    alone = str(device) == "cpu" or not torch.accelerator.is_available()
    with reaching_others(distributed.DistError):
        return Accelerator(device_placement=False, cpu=alone, kwargs_handlers=[patient])


def stream_seed(seed: int, step: int, process: int = 0) -> int:
    """Seed of what a process draws at a step, such as dropout.

    Processes that share a run draw differently, and a resumed run draws what the unbroken one
    would have.
    """
    return hash((seed, step, process) if process else (seed, step)) % 2**63


@contextmanager
def reaching_others(kind: type[RuntimeError] = RuntimeError) -> Iterator[None]:
    """Say, of an error in the block, that another process could not be reached.

    Args:
        kind: of the errors of what carries messages between processes.

    Raises:
        RuntimeError: for any such error.
    """
    try:
        yield
    except kind as error:
        raise RuntimeError(
            "Another process of this run has ended, or does not answer any more "
            f"({first_line(error):.200}). Run the command again with --resume: the run goes on "
            "from its last validation."
        ) from error


def meet() -> None:
    """Wait until all processes are here."""
    from accelerate import PartialState

    with reaching_others():
        PartialState().wait_for_everyone()


def add_up(tensors: Iterable[Tensor]) -> None:
    """Put into each tensor the sum of what it is in every process, in one message per dtype.

    What is trained is small beside what is frozen, so one message at the end of a step takes less
    than DDP's at every micro batch.

    Raises:
        RuntimeError: if another process does not answer within `LONGEST_STEP`.
    """
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for own in by_dtype.values():
        together = torch.cat([one.flatten() for one in own])
        with reaching_others():
            distributed.all_reduce(together, async_op=True).wait(LONGEST_STEP)
        for one, found in zip(own, together.split([t.numel() for t in own]), strict=True):
            one.copy_(found.view_as(one))


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
    with reaching_others():
        distributed.all_gather_object(found, items)
    return [item for some in found for item in some]
