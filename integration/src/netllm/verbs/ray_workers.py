"""Pieces of work on a cluster: Ray's workers in the place of processes of this machine.

Joblib's back end of Ray gives no result before the last one, so the pieces are tasks of Ray.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ray import ObjectRef

T = TypeVar("T")
AHEAD = 4
"""Results that may wait for an earlier one, for each piece of work at once: bounds memory."""
RETRIES = 3
"""How often a piece of work begins anew whose worker was killed."""

_wanted: ContextVar[bool] = ContextVar("_wanted", default=False)


@contextmanager
def on_ray(address: str | None = None) -> Iterator[None]:
    """For the block, let the verbs send their pieces of work to Ray.

    The results are those of `jobs` on one machine, in the same order. A piece whose worker is
    killed begins anew, up to three times. netllm and every file that is named, data too, must be at
    the same place on all machines of the cluster.

    Args:
        address: of a running cluster: `host:port`, `ray://host:port`, or `auto` for the one that
            this machine is part of. Without it Ray starts on this machine, for the block.

    Raises:
        ModuleNotFoundError: if Ray is not installed.
        ConnectionError: if there is no such cluster.
    """
    ray = _ray()
    began = not ray.is_initialized()
    if began:
        where = {"address": address} if address else {"include_dashboard": False}
        ray.init(**where, log_to_driver=False, configure_logging=False)
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)
        if began:
            ray.shutdown()


def wanted() -> bool:
    """Whether a block of `on_ray` has begun."""
    return _wanted.get()


def results(calls: Iterable[Callable[[], T]], *, jobs: int) -> Iterator[T]:
    """What the calls give, in their order; see `netllm.verbs.parallel.results`.

    Raises:
        RuntimeError: if the workers of a piece of work were killed again and again.
    """
    ray = _ray()
    at_once = jobs if jobs > 0 else max(1, int(ray.cluster_resources()["CPU"]))
    work = ray.remote(_call).options(max_retries=RETRIES)
    order: deque[ObjectRef[Any]] = deque()
    running: set[ObjectRef[Any]] = set()
    for call in calls:
        while len(running) >= at_once or len(order) >= AHEAD * at_once:
            ended, _ = ray.wait([*running], num_returns=1)
            running.difference_update(ended)
            while order and order[0] not in running:
                yield _got(order.popleft())
        order.append(work.remote(call))
        running.add(order[-1])
    while order:
        yield _got(order.popleft())


def _call(call: Callable[[], T]) -> T:
    return call()


def _got(reference: ObjectRef[Any]) -> Any:
    """The result, or the error itself that the work ended with."""
    ray = _ray()
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        raise RuntimeError(
            f"A piece of work was given up: its worker died {RETRIES + 1} times. Has every machine "
            "enough memory? What was written before stays; the same command goes on from there "
            "where it can be resumed."
        ) from error


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ModuleNotFoundError(
            "A cluster needs Ray. In a clone: pip install './integration[ray]'"
        ) from error
    return ray
