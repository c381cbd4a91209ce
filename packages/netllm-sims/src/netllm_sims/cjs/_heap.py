"""The events ahead, a binary heap of executors by time and order of insertion."""

from netllm_sims.cjs._jit import compiled
from netllm_sims.cjs._layout import COUNTER, PENDING, State


@compiled
def push(state: State, time_ms: float, e: int, top: bool) -> None:
    """Put an executor's next event into the heap, in place of the first one if `top`."""
    g, heap_ms, heap = state.g, state.heap_ms, state.heap
    rank = g[COUNTER]
    g[COUNTER] += 1
    if top:
        sink(state, time_ms, rank, e)
        return
    i = g[PENDING]
    g[PENDING] += 1
    while i > 0:
        up = (i - 1) >> 1
        if heap_ms[up] <= time_ms:  # its rank is lower
            break
        heap_ms[i], heap[i, 0], heap[i, 1] = heap_ms[up], heap[up, 0], heap[up, 1]
        i = up
    heap_ms[i], heap[i, 0], heap[i, 1] = time_ms, rank, e


@compiled
def sink(state: State, time_ms: float, rank: int, e: int) -> None:
    """Write an event over the first one and let it sink to its place."""
    heap_ms, heap, size = state.heap_ms, state.heap, state.g[PENDING]
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


@compiled
def pop(state: State) -> None:
    """Drop the first event."""
    state.g[PENDING] -= 1
    last = state.g[PENDING]
    if last > 0:
        sink(state, state.heap_ms[last], state.heap[last, 0], state.heap[last, 1])
