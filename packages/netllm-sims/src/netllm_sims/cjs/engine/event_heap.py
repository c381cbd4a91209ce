"""The events ahead, a binary heap of executors by time and order of insertion."""

from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.state_arrays import COUNTER, PENDING

Times = Float[ndarray, "executor"]
Heap = Int[ndarray, "executor 2"]
Globals = Int[ndarray, "17"]


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
