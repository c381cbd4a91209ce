"""The compiled rules, in one module: numba's cache watches a function's own file only."""

from math import ceil, log
from typing import Any

from jaxtyping import Float
from netllm_sims.cjs.compiled_policy_tools import (
    can_wait,
    committable,
    heuristic,
    inner,
    source_job,
)
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    COMMITTED,
    DEMAND,
    EXECUTORS,
    MOVING,
    RUNNING,
    SCHEDULABLE,
    SUPPLY,
    UNFINISHED_PARENTS,
    UNSTARTED,
    State,
    World,
)
from numpy import ndarray

Numbers = Float[ndarray, "parameter"]
NS_PER_MS = 1e6


@inner
def work_s(world: World, state: State, j: int, running: float) -> float:
    """A job's work left: its tasks by its stages' latest durations, a running one in part."""
    total_ms = 0.0
    for s in range(world.first_stage[j], world.first_stage[j + 1]):
        tasks = state.stage[s, UNSTARTED] + running * state.stage[s, RUNNING]
        total_ms += tasks * state.recent_ms[s]
    return total_ms * 1e-3


@inner
def paths(world: World, state: State, j: int) -> float:
    """Length in s of a job's longest path of unfinished stages, one task each.

    Each stage's own, in ns, goes to the scratch `row_of`; children come first.
    """
    longest = 0
    for k in range(world.first_stage[j + 1] - 1, world.first_stage[j] - 1, -1):
        s = world.order[k]
        state.row_of[s] = 0
        if state.stage[s, UNSTARTED] + state.stage[s, RUNNING] == 0:
            continue
        below = 0
        for i in range(world.first_child[s], world.first_child[s + 1]):
            below = max(below, state.row_of[world.child[i]])
        length = below + int(state.recent_ms[s] * NS_PER_MS)
        state.row_of[s] = length
        longest = max(longest, length)
    return longest / NS_PER_MS * 1e-3


@inner
def first_stage_of(world: World, state: State, j: int) -> Any:
    """A job's first schedulable stage whose parents are finished, else its first one, else -1."""
    found = -1
    for i in range(state.g[SCHEDULABLE]):
        s = state.schedulable[i]
        if world.job_of[s] != j:
            continue
        if state.stage[s, UNFINISHED_PARENTS] == 0:
            return s
        if found < 0:
            found = s
    return found


@heuristic
def true_fifo(world: World, state: State, parameters: Numbers) -> tuple[int, int]:
    """All to the job that came first."""
    j = world.job_of[state.schedulable[0]]
    return first_stage_of(world, state, j), committable(state)


@heuristic
def srw(world: World, state: State, parameters: Numbers) -> tuple[int, int]:
    """All to the job with the least work left; parameter: share of a running task that is left."""
    best, least, last = -1, 0.0, -1
    for i in range(state.g[SCHEDULABLE]):
        j = world.job_of[state.schedulable[i]]
        if j == last:
            continue
        last = j
        left = work_s(world, state, j, parameters[0])
        if best < 0 or left < least:
            best, least = j, left
    return first_stage_of(world, state, best), committable(state)


@heuristic
def critical_path(world: World, state: State, parameters: Numbers) -> tuple[int, int]:
    """All to the stage with the longest path below it, in any job."""
    best, longest, last = -1, -1, -1
    for i in range(state.g[SCHEDULABLE]):
        s = state.schedulable[i]
        if world.job_of[s] != last:
            last = world.job_of[s]
            paths(world, state, last)
        if state.row_of[s] > longest:
            best, longest = s, state.row_of[s]
    return best, committable(state)


@inner
def whole_work_s(world: World, state: State, j: int) -> float:
    """A job's work from its first task on, by its stages' latest durations."""
    total_ms = 0.0
    for s in range(world.first_stage[j], world.first_stage[j + 1]):
        total_ms += world.tasks[s] * state.recent_ms[s]
    return total_ms * 1e-3


@heuristic
def weighted_fair(world: World, state: State, parameters: Numbers) -> tuple[int, int]:
    """Fair, with shares in proportion to work to the power of the parameter."""
    free, source = committable(state), source_job(world, state)
    if source >= 0:
        s = first_stage_of(world, state, source)
        if s >= 0:
            return s, free
    total = 0.0
    for i in range(state.g[ACTIVE]):
        total += whole_work_s(world, state, state.active[i]) ** parameters[0]
    last = -1
    for i in range(state.g[SCHEDULABLE]):
        j = world.job_of[state.schedulable[i]]
        if j == last:
            continue
        last = j
        share = whole_work_s(world, state, j) ** parameters[0] / total
        room = max(1, ceil(world.options[EXECUTORS] * share)) - state.job[j, SUPPLY]
        if room > 0:
            return first_stage_of(world, state, j), min(free, room)
    return -1, free


@inner
def weight(world: World, state: State, j: int, p: Numbers) -> float:
    """Claim of a job to executors; leaves its paths in `row_of`."""
    longest_s = paths(world, state, j)
    return float((work_s(world, state, j, p[14]) + 1.0 + p[13] * longest_s) ** -p[7])


@inner
def pays(state: State, s: int, other: bool, work: float, supply: int, p: Numbers) -> bool:
    """Whether one more executor gains more at the stage than its coming costs."""
    stage, d = state.stage, state.recent_ms[s] * 1e-3
    if other and supply > 0 and work / supply < p[17]:
        return False
    k = stage[s, RUNNING] + stage[s, MOVING] + stage[s, COMMITTED]
    left = (stage[s, UNSTARTED] + 0.5 * stage[s, RUNNING]) * d
    return bool(k == 0 or left / k >= (p[15] if other else p[16]) + p[18] * d)


@inner
def scan(world: World, state: State, p: Numbers, total: float, mode: int) -> tuple[int, int]:
    """Best stage and its job's room: 0 with room, 1 the source's over its cap, 2 any at all."""
    best, best_room, top, last = -1, 0, 0.0, -1
    free, source, executors = committable(state), source_job(world, state), world.options[EXECUTORS]
    work = longest_s = 0.0
    room = 0
    for i in range(state.g[SCHEDULABLE]):
        s = state.schedulable[i]
        j = world.job_of[s]
        supply = state.job[j, SUPPLY]
        if j != last:
            last = j
            longest_s = paths(world, state, j)
            work = work_s(world, state, j, p[14])
            share = (work + 1.0 + p[13] * longest_s) ** -p[7] / total
            room = max(1, int(min(p[9], ceil(p[8] * executors * share)))) - supply
            if j == source:
                room += free
        if (mode == 0 and room <= 0) or (mode == 1 and j != source):
            continue
        if mode < 2 and not pays(state, s, j != source, work, supply, p):
            continue
        score = p[6] * log(state.row_of[s] / NS_PER_MS * 1e-3 + 1.0)
        score += p[4] * log(state.stage[s, UNSTARTED] + 1.0) + p[5] * supply / executors
        score -= p[0] * log(work + 1.0) + p[1] * log(longest_s + 1.0)
        score += p[2] * (j == source) + p[3] * (state.stage[s, UNFINISHED_PARENTS] == 0)
        if best < 0 or score > top:
            best, best_room, top = s, room if mode == 0 else free, score
    return best, best_room


@heuristic
def tuned_share(world: World, state: State, parameters: Numbers) -> tuple[int, int]:
    """Scored stages under weighted caps; parameters in the order of `tuned_share.FIFTY`."""
    free, total = committable(state), 0.0
    for i in range(state.g[ACTIVE]):
        total += weight(world, state, state.active[i], parameters)
    s, room = scan(world, state, parameters, total, 0)
    if s < 0:
        s, room = scan(world, state, parameters, total, 1)
    if s < 0 and not can_wait(world, state):
        s, room = scan(world, state, parameters, total, 2)
    if s < 0:
        return -1, free
    wanted = ceil(parameters[10] * state.stage[s, DEMAND])
    return s, max(1, min(free, wanted, room))
