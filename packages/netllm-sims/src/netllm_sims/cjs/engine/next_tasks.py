"""The common case, nine in ten events: an executor takes its stage's next task at once."""

from netllm_sims.cjs.dag import REST
from netllm_sims.cjs.engine.commitments import shift_demand
from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.events import TASK_EVENT, record, record_task, sink
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    ARRIVED,
    BUSY,
    BUSY_MS,
    COUNTER,
    CROWD,
    DEMAND,
    JOB_MS,
    LOCAL,
    LUCK,
    NOW,
    PENDING,
    SEEN,
    STARTED,
    TAKEN,
    TARGET,
    UNSTARTED,
    WAVE,
    State,
    World,
)  # fmt: skip
from netllm_sims.cjs.engine.task_durations import pick


@inner
def work_on(world: World, state: State) -> None:
    """Let executors take tasks of the stages that they work on, until anything else happens.

    No executor changes its pool here, so nothing can become committable.
    """
    g, clock, stage, job, executor = state.g, state.clock, state.stage, state.job, state.executor
    heap_ms, heap, replay_ms, start_ms = state.heap_ms, state.heap, state.replay_ms, state.start_ms
    logged = state.task_log.shape[0] > 0
    arrival = g[ARRIVED] < world.arrival_ms.shape[0]
    while g[PENDING] > 0:
        now_ms, e = heap_ms[0], heap[0, 1]
        s = executor[e, TARGET]
        if executor[e, BUSY] == 0 or stage[s, UNSTARTED] == 0:
            return
        if arrival and world.arrival_ms[g[ARRIVED]] <= now_ms:
            return
        clock[JOB_MS] += g[ACTIVE] * (now_ms - clock[NOW])
        clock[NOW] = now_ms
        j = world.job_of[s]
        number = world.tasks[s] - stage[s, UNSTARTED]
        if replay_ms.shape[0] > 0:
            duration_ms = replay_ms[g[STARTED]]
        else:
            duration_ms = pick(world, g[LUCK], s, number, job[j, LOCAL], REST) * world.slowness[e]
        stage[s, UNSTARTED] -= 1
        if stage[s, UNSTARTED] == 0:
            job[j, TAKEN] += 1
        if stage[s, DEMAND] == 1:
            shift_demand(world, state, s, -1)
        else:
            stage[s, DEMAND] -= 1
        state.recent_ms[s] = duration_ms
        executor[e, WAVE], executor[e, CROWD], start_ms[e] = REST, job[j, LOCAL], now_ms
        clock[BUSY_MS] += duration_ms
        if logged:
            record(state, TASK_EVENT, e, s)
            record_task(state, duration_ms, e, s, job[j, LOCAL], REST, number)
        g[SEEN] += 1
        g[STARTED] += 1
        sink(heap_ms, heap, g[PENDING], now_ms + duration_ms, g[COUNTER], e)
        g[COUNTER] += 1
