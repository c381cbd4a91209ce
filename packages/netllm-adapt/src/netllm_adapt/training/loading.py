"""Batches on the device where they are learned from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
SWITCH = "NETLLM_LOAD_AHEAD"
"""The environment variable that asks for loading ahead by 1, and for none by 0."""
AHEAD = 2
"""Batches that are made ready while one is learned from."""


def loaded(load: Callable[[T], Any], wanted: Iterable[T], *, ahead: bool) -> Iterator[Any]:
    """What `load` gives of each that is wanted, in order.

    Args:
        load: makes one ready; an error of it is raised where its own would have come.
        wanted: read in this thread, a few ahead.
        ahead: whether a thread loads, for as long as a GPU learns Python has nothing else to do.
    """
    if not ahead:
        yield from map(load, wanted)
        return
    coming: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1, "loading") as thread:
        for one in wanted:
            coming.append(thread.submit(load, one))
            if len(coming) > AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
