"""Pieces of work that run at once, in processes that end with the one that asked."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_LOOK_S = 0.5


def results(calls: Iterable[Callable[[], T]], *, jobs: int) -> Iterator[T]:
    """What the calls give, in their order.

    They go through joblib, or in a block of `netllm.on_ray` to a cluster. Processes that this one
    starts end with it, even if it is killed (where the system is of POSIX's kind): nothing else
    would tell them that nobody waits for their results.

    Args:
        calls: functions without arguments that joblib can send to another process.
        jobs: how many run at once; 1 runs them here, -1 takes one process per core.
    """
    from netllm.verbs import ray_workers

    if ray_workers.wanted():
        return ray_workers.results(calls, jobs=jobs)
    from joblib import Parallel, delayed

    here = os.getpid()
    answers: Iterator[T] = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_call)(call, here) for call in calls
    )
    return answers


@contextmanager
def noted(who: str) -> Iterator[None]:
    """For the block, add to any error whose work it was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"It was {who}.")
        raise


def _call(call: Callable[[], T], parent: int) -> T:
    _end_with(parent)
    return call()


def _end_with(parent: int) -> None:
    """Let this process end once its parent is gone; nothing, if it is no child of that."""
    started_by = multiprocessing.parent_process()
    if os.name != "posix" or started_by is None or started_by.pid != parent:
        return
    name = f"watches process {parent}"
    if all(thread.name != name for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent,), name=name, daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def derived_seed(seed: int, index: int) -> int:
    """The seed of the piece of work `index`: pieces of one seed must not repeat each other."""
    import numpy as np

    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
