"""FIFO and Fair as the reference has them: one scheduler with two caps per job."""

from jaxtyping import Float
from numpy import ndarray

from netllm_sims.cjs.engine.commitments import committable
from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.decision_rounds import source_job
from netllm_sims.cjs.engine.policy_loop import heuristic
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    EXECUTORS,
    SCHEDULABLE,
    SUPPLY,
    UNFINISHED_PARENTS,
    State,
    World,
)  # fmt: skip


@inner
def choose(world: World, state: State, cap: int) -> tuple[int, int]:
    """All to the source's job if it has a stage, else to the first job with fewer than `cap`.

    Of a job's stages the first whose parents are finished, else the first.
    """
    free = committable(state)
    source = source_job(world, state)
    count = state.g[SCHEDULABLE]
    for turn in range(2):
        i = 0
        while i < count:
            s = state.schedulable[i]
            j = world.job_of[s]
            while i < count and world.job_of[state.schedulable[i]] == j:
                frontier = state.stage[state.schedulable[i], UNFINISHED_PARENTS] == 0
                if frontier and state.stage[s, UNFINISHED_PARENTS] > 0:
                    s = state.schedulable[i]
                i += 1
            if turn == 0 and j == source:
                return s, free
            if turn == 1 and j != source and state.job[j, SUPPLY] < cap:
                return s, min(free, cap - state.job[j, SUPPLY])
    return -1, free


@heuristic
def fifo(world: World, state: State, parameters: Float[ndarray, "parameter"]) -> tuple[int, int]:
    """At most half of the executors, rounded up, to a job."""
    return choose(world, state, (world.options[EXECUTORS] + 1) // 2)


@heuristic
def fair(world: World, state: State, parameters: Float[ndarray, "parameter"]) -> tuple[int, int]:
    """Equal shares, rounded up, of the executors to the active jobs."""
    active = max(1, state.g[ACTIVE])
    return choose(world, state, (world.options[EXECUTORS] + active - 1) // active)
