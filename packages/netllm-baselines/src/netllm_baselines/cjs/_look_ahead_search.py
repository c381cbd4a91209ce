"""The compiled search of `rollout`: candidates, simulated ahead under common draws."""

from math import exp, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.cjs.compiled_policy_tools import (
    committable,
    compiled,
    copy_present,
    decide,
    inner,
    mix,
    present,
    redraw_running,
    source_job,
    use_draws,
)
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    ARRIVED,
    DECISIONS,
    DEMAND,
    JOB_MS,
    PENDING,
    PROMISED,
    RESCUED,
    SCHEDULABLE,
    SOURCE,
    State,
    World,
)
from numpy import ndarray

from netllm_baselines.cjs._compiled_rules import tuned_share, weighted_fair, work_s

Numbers = Float[ndarray, "parameter"]
Answer = Int[ndarray, "2"]
"""Stage (-1 for none) and executors."""
NEVER = 1e9
"""Patience that drops only what ends exactly as the standing choice does."""
STARVED_MS = 1e12
"""Cost of a choice after which executors idle that no event would wake, while jobs still come."""

WARMTH, STAGE_AHEAD, NONE_AHEAD, EXECUTORS_AHEAD = 1.25, 0.4, 0.3, 1.5
LEAST_MS, STAKE_MS = 100.0, 2_000.0
"""How candidates are weighed, see `weigh`."""


class Scratch(NamedTuple):
    """Where one episode's searches are worked out."""

    jobs: Int[ndarray, "job"]
    """Those that the copies hold."""
    order: Int[ndarray, "stage"]
    """Schedulable stages, the most promising first."""
    rank: Float[ndarray, "stage"]
    """Of these, the larger the earlier."""
    choices: Int[ndarray, "candidate 2"]
    """Stage and executors."""
    costs_ms: Float[ndarray, "candidate sample"]
    """Time that the present jobs take together; nan where it was not simulated."""
    weights: Float[ndarray, "candidate"]
    """What each weighs as an answer to be learned."""
    stays: Int[ndarray, "candidate"]
    """Candidates that are still compared: the standing one, then the best first."""
    heap_ms: Float[ndarray, "executor"]
    """Events ahead, redrawn."""
    heap: Int[ndarray, "executor 2"]
    even: Float[ndarray, "1"]
    """Parameter that makes `weighted_fair` Fair."""


@inner
def propose(scratch: Scratch, count: int, s: int, executors: int) -> int:
    """Add a candidate if there is room and it is new: the list's new length."""
    choices = scratch.choices
    if count == choices.shape[0]:
        return count
    for i in range(count):
        if choices[i, 0] == s and (s < 0 or choices[i, 1] == executors):
            return count
    choices[count, 0], choices[count, 1] = s, executors
    return count + 1


@inner
def sort_stages(world: World, state: State, scratch: Scratch, running: float) -> int:
    """Order the schedulable stages: the source's job first, then jobs with little work left."""
    order, rank = scratch.order, scratch.rank
    source = source_job(world, state)
    count, last, value = state.g[SCHEDULABLE], -1, 0.0
    for i in range(count):
        s = state.schedulable[i]
        j = world.job_of[s]
        if j != last:
            last = j
            value = 1.0 if j == source else -work_s(world, state, j, running)
        k = i
        while k > 0 and rank[k - 1] < value:
            order[k], rank[k] = order[k - 1], rank[k - 1]
            k -= 1
        order[k], rank[k] = s, value
    return count


@inner
def gather(world: World, state: State, scratch: Scratch, standing: Answer, p: Numbers) -> int:
    """Write the candidates, the standing one and tuned-share's choice first: how many."""
    free = committable(state)
    own, executors = tuned_share(world, state, p)
    most = 0
    if own >= 0:
        most = min(free, state.stage[own, DEMAND])
        executors = min(executors, most)
    count, s = 0, standing[0]
    if standing[1] > 0:
        most_there = free if s < 0 else min(free, state.stage[s, DEMAND])
        count = propose(scratch, 0, s, min(standing[1], most_there))
    count = propose(scratch, count, own, executors)
    # Ahead no job arrives: with nothing else to wait for, executors would be offered again at once.
    if state.g[PENDING] > 0 or state.pool[state.g[SOURCE], PROMISED] > 0:
        count = propose(scratch, count, -1, free)
    s, fair = weighted_fair(world, state, scratch.even)
    if s >= 0:
        count = propose(scratch, count, s, min(fair, state.stage[s, DEMAND]))
    if own >= 0:
        count = propose(scratch, count, own, most)
        count = propose(scratch, count, own, max(1, executors // 2))
        count = propose(scratch, count, own, 1)
    listed = sort_stages(world, state, scratch, p[14])
    for turn in range(3):
        for i in range(listed):
            s = scratch.order[i]
            most = min(free, state.stage[s, DEMAND])
            some = most if turn == 0 else (max(1, most // 2) if turn == 1 else 1)
            count = propose(scratch, count, s, some)
    return count


@inner
def cost_ms(
    world: World, state: State, twin: State, scratch: Scratch, jobs: int, luck: int, c: int,
    p: Numbers,
) -> float:  # fmt: skip
    """Time that the present jobs take together if the candidate is chosen, then tuned-share."""
    copy_present(world, state, twin, scratch.jobs, jobs)
    use_draws(twin, luck, scratch.heap_ms, scratch.heap)
    decide(world, twin, scratch.choices[c, 0], scratch.choices[c, 1])
    while twin.g[ACTIVE] > 0:
        s, executors = tuned_share(world, twin, p)
        decide(world, twin, s, executors)
    return twin.clock[JOB_MS] - state.clock[JOB_MS]


@inner
def sample_costs(
    world: World, state: State, twin: State, scratch: Scratch, jobs: int, luck: int, sample: int,
    staying: int, p: Numbers,
) -> None:  # fmt: skip
    """Write the costs of a sample, of the standing choice first.

    A copy offers executors again that no event would wake, for no job arrives in it. The episode
    does so after the last arrival only: until then a choice that needs it more often than
    the standing one starves the cluster.
    """
    coming = state.g[ARRIVED] < world.arrival_ms.shape[0]
    rescued = 0
    for i in range(staying):
        c = scratch.stays[i]
        cost = cost_ms(world, state, twin, scratch, jobs, luck, c, p)
        if i == 0:
            rescued = twin.g[RESCUED]
        starves = coming and twin.g[RESCUED] > rescued
        scratch.costs_ms[c, sample] = STARVED_MS if starves else cost


@inner
def draw(state: State, seed: int, sample: int) -> int:
    """Luck of a sample of a decision."""
    z = mix(np.uint64(seed) + np.uint64(state.g[DECISIONS]))
    return int(np.int64(mix(z + np.uint64(sample))))


@inner
def gain_ms(scratch: Scratch, c: int, samples: int) -> tuple[float, float]:
    """Mean gain over candidate 0, and its standard error, over paired samples."""
    costs = scratch.costs_ms
    mean = square = 0.0
    for i in range(samples):
        mean += (costs[0, i] - costs[c, i]) / samples
    for i in range(samples):
        square += (costs[0, i] - costs[c, i] - mean) ** 2
    return mean, sqrt(square / (samples * (samples - 1)))


@inner
def cut(scratch: Scratch, staying: int, samples: int, keep: int, patience: float) -> int:
    """Keep the standing choice and the best others that do not fall behind: how many stay."""
    stays, rank = scratch.stays, scratch.rank
    left = 1
    for i in range(1, staying):
        c = stays[i]
        mean, error = gain_ms(scratch, c, samples)
        if mean <= -patience * error:
            continue
        k = left
        while k > 1 and rank[k - 1] < mean:
            stays[k], rank[k] = stays[k - 1], rank[k - 1]
            k -= 1
        stays[k], rank[k] = c, mean
        left += 1
    return min(left, 1 + keep)


@inner
def sure(rank: Float[ndarray, "stage"], c: int) -> float:
    """Rank among the numbers of executors of a stage."""
    return rank[c] - (EXECUTORS_AHEAD if c == 0 else 0.0)


@inner
def weigh(scratch: Scratch, count: int) -> None:
    """Write what each candidate weighs: how likely it is the best, times what is at stake.

    How likely is a softmax of mean costs over stages and none, each stage at its best number of
    executors, and one over the numbers of executors of a stage. Their temperature is `WARMTH` times
    the standard error of a difference of two draws, and `LEAST_MS` at least. So many temperatures
    tuned-share's choice is ahead of other stages and its number of executors of other numbers,
    for where there is nothing to choose it is as good as any; waiting may go on and is less so.
    At stake is the temperature, in units of `STAKE_MS`.
    """
    choices, costs, weights, rank = scratch.choices, scratch.costs_ms, scratch.weights, scratch.rank
    noise, pairs = 0.0, 0
    for c in range(count):
        draws, rank[c] = 0, 0.0
        while draws < costs.shape[1] and not np.isnan(costs[c, draws]):
            rank[c] += costs[c, draws] - costs[0, draws]
            draws += 1
        rank[c] /= max(draws, 1)
        if c > 0 and max(costs[c, 0], costs[c, 1]) < STARVED_MS:
            noise += (costs[c, 0] - costs[0, 0] - costs[c, 1] + costs[0, 1]) ** 2 / 4
            pairs += 1
    warmth = max(LEAST_MS, WARMTH * sqrt(noise / max(pairs, 1)))
    for c in range(count):
        ahead = STAGE_AHEAD if c == 0 else (NONE_AHEAD if choices[c, 0] < 0 else 0.0)
        rank[c] = rank[c] / warmth - ahead
    least, total = rank[0], 0.0
    for c in range(count):
        least = min(least, rank[c])
    for c in range(count):
        best, beside = rank[c], 0.0
        for other in range(count):
            if choices[other, 0] == choices[c, 0]:
                best = min(best, rank[other])
                beside += exp(best - sure(rank, other))
        weights[c] = exp(least - best) * exp(best - sure(rank, c)) / beside
        total += weights[c]
    stake = min(max(warmth / STAKE_MS, 0.2), 4.0)
    for c in range(weights.shape[0]):
        weights[c] *= stake / total if c < count else 0.0


@compiled
def search(
    world: World, state: State, twin: State, scratch: Scratch, standing: Answer, p: Numbers,
    seed: int, samples: int, more: int, threshold: float,
) -> tuple[int, int]:  # fmt: skip
    """Stage (-1 for none) and executors: the standing ones unless another choice surely gains.

    With 0 executors none stand, and tuned-share's do.
    """
    count = gather(world, state, scratch, standing, p)
    scratch.costs_ms[:] = np.nan
    for c in range(count):
        scratch.stays[c] = c
    jobs = present(world, state, scratch.jobs)
    staying = count
    for sample in range(samples + more):
        if sample == samples:
            staying = cut(scratch, staying, sample, 2, threshold)
        elif sample == samples + more // 2:
            staying = cut(scratch, staying, sample, 1, threshold)
        elif sample == samples // 2 and sample >= 2:
            staying = cut(scratch, staying, sample, scratch.stays.shape[0] // 3, NEVER)
        if staying == 1:
            break
        luck = draw(state, seed, sample)
        redraw_running(world, state, luck + 1, scratch.heap_ms, scratch.heap)
        sample_costs(world, state, twin, scratch, jobs, luck, sample, staying, p)
    weigh(scratch, count)
    best, most = 0, 0.0
    for i in range(1, staying):
        c = scratch.stays[i]
        mean, error = gain_ms(scratch, c, samples + more)
        if mean > most and mean > threshold * error:
            best, most = c, mean
    return scratch.choices[best, 0], scratch.choices[best, 1]
