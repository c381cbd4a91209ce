"""Durations of tasks, drawn from counters so that they do not depend on the order of draws."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.state_arrays import REFERENCE, WARMUP_MS, World


@inner
def mix(z: np.uint64) -> np.uint64:
    """Bits of a counter, well mixed (the finaliser of splitmix64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def uniforms(luck: int, job: int, stage: int, number: int) -> tuple[float, float]:
    """Two uniforms in [0, 1) of the number-th started task of a job's stage."""
    z = mix(np.uint64(luck) + np.uint64(job + 1) * np.uint64(0x9E3779B97F4A7C15))
    z = mix(z + ((np.uint64(stage) << np.uint64(32)) | np.uint64(number)))
    other = mix(z + np.uint64(0x9E3779B97F4A7C15))
    return (z >> np.uint64(11)) * 2.0**-53, (other >> np.uint64(11)) * 2.0**-53


@inner
def pick(world: World, luck: int, s: int, number: int, local: int, wave: int) -> float:
    """Duration in ms of a stage's task, for so many executors at its job."""
    row, j = world.row[s], world.job_of[s]
    u, v = uniforms(luck, j, s - world.first_stage[j], number)
    level = choose_level(world.options, world.levels, world.bracket, local, u)
    return take(world.cells, world.durations_ms, world.delays, row, wave, level, v)


@inner
def choose_level(
    options: Int[ndarray, "2"],
    levels: Int[ndarray, "8"],
    bracket: Int[ndarray, "executor_and_none 2"],
    local: int,
    u: float,
) -> int:
    """Index of the level that serves so many executors.

    Between two levels the reference takes the lower with probability (n - left) / (right - left).
    """
    level, right = bracket[local, 0], bracket[local, 1]
    if level == right:
        return level
    low, high = levels[level], levels[right]
    near = 1 + int(u * (high - low)) <= local - low
    return level if near == (options[REFERENCE] == 1) else right


@inner
def take(
    cells: Int[ndarray, "row 3 8 3"],
    durations_ms: Float[ndarray, "duration"],
    delays: Float[ndarray, "2"],
    row: int,
    wave: int,
    level: int,
    v: float,
) -> float:
    """Duration at the place `v` in [0, 1) of a list, with the warm-up delay if it asks for it."""
    place = cells[row, wave, level, 0] + int(v * cells[row, wave, level, 1])
    return durations_ms[place] + cells[row, wave, level, 2] * delays[WARMUP_MS]
