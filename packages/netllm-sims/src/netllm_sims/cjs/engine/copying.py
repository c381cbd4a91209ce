"""Copies of a state, to branch an episode."""

from jaxtyping import Shaped
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.state_arrays import ACTIVE, MASK, SCHEDULABLE, SETS, State


@inner
def fill(target: Shaped[ndarray, "row"], source: Shaped[ndarray, "row"]) -> None:
    """Copy values."""
    for i in range(source.shape[0]):
        target[i] = source[i]


@inner
def fill_rows(target: Shaped[ndarray, "row cell"], source: Shaped[ndarray, "row cell"]) -> None:
    """Copy rows of values."""
    for i in range(source.shape[0]):
        for k in range(source.shape[1]):
            target[i, k] = source[i, k]


@compiled
def copy(source: State, target: State) -> None:
    """Make `target`, of the same sizes, go on from where `source` stands.

    Recorded durations and logs stay its own.
    """
    fill(target.g, source.g)
    fill(target.clock, source.clock)
    fill(target.done_ms, source.done_ms)
    fill(target.recent_ms, source.recent_ms)
    fill(target.heap_ms, source.heap_ms)
    fill(target.start_ms, source.start_ms)
    for i in range(source.g[ACTIVE]):
        target.active[i] = source.active[i]
    for i in range(source.g[SCHEDULABLE]):
        target.schedulable[i] = source.schedulable[i]
    fill_rows(target.job, source.job)
    fill_rows(target.stage, source.stage)
    fill_rows(target.executor, source.executor)
    fill_rows(target.heap, source.heap)
    fill_rows(target.node, source.node)
    fill_rows(target.pool, source.pool)
    for k in range(source.g[SETS]):
        for i in range(4):
            target.sets[k, i] = source.sets[k, i]
        for i in range(source.sets[k, MASK] + 1):
            target.table[k, i] = source.table[k, i]
