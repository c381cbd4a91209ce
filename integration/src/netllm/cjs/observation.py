"""What the model sees of a cluster: stages, jobs, the graph between them, and a rule's advice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from netllm_adapt import Episode

COUNT = {"scale": 5.0, "log": True}
TIME = {"scale": 10_000.0, "log": True}
"""Counts and times in ms span orders of magnitude, and are seen through a logarithm."""

STAGES = {
    **dict.fromkeys(("unstarted", "running", "moving", "committed", "demand", "tasks"), COUNT),
    **dict.fromkeys(("recent_ms", "work_ms", "path_ms"), TIME),
    "advised": COUNT,
}
"""Columns of the simulator, and how many executors `tuned-share` would give the stage now: the
model learns when to do something better (see `netllm.cjs.environment.Advice`)."""
COLUMN = {name: column for column, name in enumerate(STAGES)}
JOBS = {
    **dict.fromkeys(("supply", "local", "stages_left"), COUNT),
    "age_ms": TIME,
    "is_source": {"scale": 1.0},
}


def seen(observation: Mapping[str, np.ndarray], advice: np.ndarray) -> dict[str, Any]:
    """What the model sees of an observation of `netllm_sims.cjs`; rows are counted within steps.

    Args:
        observation: Of a batch of episodes.
        advice: Per episode which of the schedulable stages (-1 none), and executors.
    """
    from netllm_adapt import Ragged

    stages, jobs, edges = (observation[f"{name}_ptr"] for name in ("stage", "job", "edge"))
    parents = np.repeat(stages[:-1], np.diff(edges))[:, None]
    owners = np.repeat(jobs[:-1], np.diff(stages))
    columns = np.column_stack([observation["stages"], _advised(observation, advice)])
    return {
        "stages": Ragged(columns, stages),
        "jobs": Ragged(observation["jobs"], jobs),
        "edges": Ragged((observation["edges"] - parents).astype(np.int32), edges),
        "stage_job": Ragged((observation["stage_job"] - owners).astype(np.int32), stages),
        "schedulable": Ragged(observation["schedulable"], stages),
        "frontier": Ragged(observation["frontier"], stages),
        "committable": observation["committable"],
        "executors": observation["executors"],
        "can_wait": observation["can_wait"],
    }


def _advised(observation: Mapping[str, np.ndarray], advice: np.ndarray) -> np.ndarray:
    """Executors that every stage is advised to get."""
    listed = np.flatnonzero(observation["schedulable"])
    before = np.searchsorted(listed, observation["stage_ptr"][:-1])
    some = advice[:, 0] >= 0
    rows = listed[before[some] + advice[some, 0]]
    demand = observation["stages"][rows, COLUMN["demand"]]
    advised = np.zeros(len(observation["stages"]), observation["stages"].dtype)
    advised[rows] = np.minimum(
        advice[some, 1], np.minimum(demand, observation["committable"][some])
    )
    return advised


def most_jobs(experience: Iterable[Episode]) -> int:
    """The most jobs that were present at once in the episodes of a pool."""
    present = [episode.observations["jobs"] for episode in experience]
    return max(int(np.diff(jobs[1]).max()) for jobs in present)
