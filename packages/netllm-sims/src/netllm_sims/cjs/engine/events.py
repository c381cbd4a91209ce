"""The events ahead, a heap of executors by time and order of insertion, and a log of the past."""

from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.state_arrays import COUNTER, NOW, PENDING, SEEN, STARTED, State

Times = Float[ndarray, "executor"]
Heap = Int[ndarray, "executor 2"]
Globals = Int[ndarray, "17"]

JOB_EVENT, EXECUTOR_EVENT, TASK_EVENT = range(3)


@inner
def push(g: Globals, heap_ms: Times, heap: Heap, time_ms: float, e: int) -> None:
    """Put an executor's next event into the heap."""
    i = g[PENDING]
    g[PENDING] += 1
    while i > 0:
        up = (i - 1) >> 1
        if heap_ms[up] <= time_ms:  # it was inserted before
            break
        heap_ms[i], heap[i, 0], heap[i, 1] = heap_ms[up], heap[up, 0], heap[up, 1]
        i = up
    heap_ms[i], heap[i, 0], heap[i, 1] = time_ms, g[COUNTER], e
    g[COUNTER] += 1


@inner
def sink(heap_ms: Times, heap: Heap, size: int, time_ms: float, rank: int, e: int) -> None:
    """Write an event over the first one and let it sink to its place."""
    i = 0
    while True:
        down = 2 * i + 1
        if down >= size:
            break
        other = down + 1
        if other < size and (
            heap_ms[other] < heap_ms[down]
            or (heap_ms[other] == heap_ms[down] and heap[other, 0] < heap[down, 0])
        ):
            down = other
        if time_ms < heap_ms[down] or (time_ms == heap_ms[down] and rank < heap[down, 0]):
            break
        heap_ms[i], heap[i, 0], heap[i, 1] = heap_ms[down], heap[down, 0], heap[down, 1]
        i = down
    heap_ms[i], heap[i, 0], heap[i, 1] = time_ms, rank, e


@inner
def pop(g: Globals, heap_ms: Times, heap: Heap) -> None:
    """Drop the first event."""
    g[PENDING] -= 1
    last = g[PENDING]
    if last > 0:
        sink(heap_ms, heap, last, heap_ms[last], heap[last, 0], heap[last, 1])


@inner
def record(state: State, kind: int, who: int, s: int) -> None:
    """Log an event of a job or executor."""
    seen, log = state.g[SEEN], state.event_log
    if seen < log.shape[0]:
        log[seen, 0], log[seen, 1], log[seen, 2], log[seen, 3] = state.clock[NOW], kind, who, s


@inner
def record_task(
    state: State, duration_ms: float, e: int, s: int, local: int, wave: int, number: int
) -> None:
    """Log a task that starts."""
    k, log = state.g[STARTED], state.task_log
    if k < log.shape[0]:
        log[k, 0], log[k, 1], log[k, 2], log[k, 3] = state.clock[NOW], duration_ms, e, s
        log[k, 4], log[k, 5], log[k, 6] = local, wave, number
