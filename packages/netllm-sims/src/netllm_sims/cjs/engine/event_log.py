"""Records of events and tasks, kept if the state has room for them."""

from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.state_arrays import NOW, SEEN, STARTED, State

JOB_EVENT, EXECUTOR_EVENT, TASK_EVENT = range(3)


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
