"""Who worked on what, and when: a bar per executor and stretch of work on one job."""

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.cjs.simulator import Simulator


def stretches(simulator: Simulator) -> Float[ndarray, "stretch 4"]:
    """Executor, job, start in s and length in s of each stretch without a gap on one job.

    Raises:
        ValueError: The simulator keeps no log.
    """
    if not simulator.logs:
        raise ValueError(
            "The simulator must keep a log of started tasks, got none. Build it with `log=True` "
            "and run it."
        )
    log = simulator.task_log
    if not len(log):
        return np.empty((0, 4))
    job = simulator.world.job_of[log[:, 3].astype(np.int64)]
    order = np.lexsort((log[:, 0], log[:, 2]))
    start_ms, executor, job = log[order, 0], log[order, 2], job[order]
    end_ms = start_ms + log[order, 1]
    breaks = np.ones(len(order), bool)
    same = (executor[1:] == executor[:-1]) & (job[1:] == job[:-1])
    breaks[1:] = ~(same & (start_ms[1:] <= end_ms[:-1]))
    first = np.flatnonzero(breaks)
    last = np.append(first[1:], len(order)) - 1
    length_ms = end_ms[last] - start_ms[first]
    return np.stack([executor[first], job[first], start_ms[first] / 1e3, length_ms / 1e3], axis=1)


def draw(bars: Float[ndarray, "stretch 4"], axes: Any, *, first: int = 0) -> None:
    """Draw `stretches`: a row per executor, from row `first` on, a colour per job."""
    for executor in np.unique(bars[:, 0]):
        mine = bars[bars[:, 0] == executor]
        colours = [f"C{int(job) % 10}" for job in mine[:, 1]]
        axes.broken_barh(mine[:, 2:], (first + executor - 0.4, 0.8), facecolors=colours)


def gantt(simulator: Simulator, axes: Any) -> Any:
    """Draw the episode so far: a row per executor, a colour per job.

    Args:
        simulator: Built with `log=True`, and run.
        axes: Axes of matplotlib; they are returned.

    Raises:
        ValueError: The simulator keeps no log.
    """
    draw(stretches(simulator), axes)
    axes.set(xlabel="time (s)", ylabel="executor", xlim=(0, max(simulator.time_ms / 1e3, 1e-3)))
    return axes
