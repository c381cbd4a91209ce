"""Copies of a state, to branch an episode."""

from netllm_sims.cjs._jit import compiled
from netllm_sims.cjs.layout import MASK, SETS, State


@compiled
def copy(source: State, target: State) -> None:
    """Make `target`, of the same sizes, go on from where `source` stands; logs are left out."""
    target.job[:], target.done_ms[:], target.stage[:] = source.job, source.done_ms, source.stage
    target.recent_ms[:], target.executor[:] = source.recent_ms, source.executor
    target.heap_ms[:], target.heap[:], target.node[:] = source.heap_ms, source.heap, source.node
    target.pool[:], target.g[:], target.clock[:] = source.pool, source.g, source.clock
    for i in range(source.active.shape[0]):
        target.active[i] = source.active[i]
    for i in range(source.schedulable.shape[0]):
        target.schedulable[i] = source.schedulable[i]
    for k in range(source.g[SETS]):
        target.sets[k] = source.sets[k]
        for i in range(source.sets[k, MASK] + 1):
            target.table[k, i] = source.table[k, i]
