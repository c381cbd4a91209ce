"""Durations of tasks, drawn from counters so that they do not depend on the order of draws."""

import numpy as np
from netllm_sims.cjs._jit import compiled
from netllm_sims.cjs._layout import REFERENCE, WARMUP_MS, World


@compiled
def mix(z: int) -> int:
    """Bits of a counter, well mixed (the finaliser of splitmix64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def uniforms(luck: int, job: int, stage: int, number: int) -> tuple[float, float]:
    """Two uniforms in [0, 1) of the number-th started task of a job's stage."""
    z = mix(np.uint64(luck) + np.uint64(job + 1) * np.uint64(0x9E3779B97F4A7C15))
    z = mix(z + ((np.uint64(stage) << np.uint64(32)) | np.uint64(number)))
    other = mix(z + np.uint64(0x9E3779B97F4A7C15))
    return (z >> np.uint64(11)) * 2.0**-53, (other >> np.uint64(11)) * 2.0**-53


@compiled
def draw(world: World, luck: int, s: int, number: int, local: int, wave: int) -> float:
    """Duration in ms of a stage's task, for so many executors at its job.

    Between two levels the reference takes the lower with probability (n - left) / (right - left).
    """
    j = world.job_of[s]
    u, v = uniforms(luck, j, s - world.first_stage[j], number)
    level, right = world.bracket[local, 0], world.bracket[local, 1]
    if level != right:
        low, high = world.levels[level], world.levels[right]
        near = 1 + int(u * (high - low)) <= local - low
        if near != (world.options[REFERENCE] == 1):
            level = right
    row = world.row[s]
    start = world.cells[row, wave, level, 0]
    place = start + int(v * world.cells[row, wave, level, 1])
    return world.durations_ms[place] + world.cells[row, wave, level, 2] * world.delays[WARMUP_MS]
