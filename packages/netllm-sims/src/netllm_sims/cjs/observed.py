"""Clusters as far as an observation shows them: compiled rules can be asked without a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from netllm_sims.cjs.dag import Waves, build
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    ARRIVED,
    EXECUTORS,
    LOCAL,
    NOW,
    OPEN,
    PENDING,
    SCHEDULABLE,
    SET,
    SOURCE,
    SUPPLY,
    UNFINISHED_PARENTS,
    USED,
    State,
    World,
    build_state,
    build_world,
)
from netllm_sims.cjs.jobs import Job, Workload
from netllm_sims.cjs.observation import JOB_COLUMNS, STAGE_COLUMNS

if TYPE_CHECKING:
    from netllm_sims.cjs.compiled_policies import Heuristic

_COUNTS = 5
"""Columns that stages of an observation and of a state have in common, the first of both."""


class Observed(NamedTuple):
    """One cluster at a decision, rebuilt from what is seen of it.

    Finished stages are not seen. Rules that look at them, as `WeightedFair` does for a job's whole
    work, take the work that is left for the whole.
    """

    world: World
    state: State

    def ask(self, heuristic: Heuristic) -> tuple[int, int]:
        """What a compiled policy would choose now, as `Simulator.step` takes it."""
        stage, executors = heuristic.function(self.world, self.state, heuristic.parameters)
        listed = self.state.schedulable[: self.state.g[SCHEDULABLE]].tolist()
        return listed.index(stage) if stage in listed else -1, max(1, executors)


def observed(observation: Mapping[str, ndarray]) -> dict[int, Observed]:
    """The clusters of an observation of `cjs.observe`, by their number in its field `episode`.

    Raises:
        ValueError: A job without a stage, stages that do not follow their jobs' order, or edges
            that join two jobs or run in a circle.
    """
    pointers = [observation[f"{name}_ptr"].tolist() for name in ("stage", "job", "edge")]
    found = {}
    for row, episode in enumerate(observation["episode"].tolist()):
        stages, jobs, edges = (slice(ptr[row], ptr[row + 1]) for ptr in pointers)
        source = int(observation["source_job"][row])
        cluster = {
            "stages": observation["stages"][stages],
            "jobs": observation["jobs"][jobs],
            "edges": observation["edges"][edges] - stages.start,
            "stage_job": observation["stage_job"][stages] - jobs.start,
            "schedulable": observation["schedulable"][stages],
            "frontier": observation["frontier"][stages],
            "source_job": source - jobs.start if source >= 0 else -1,
            **{
                name: observation[name][row]
                for name in ("committable", "executors", "can_wait", "time_ms")
            },
        }
        found[episode] = _rebuilt(cluster)
    return found


def _rebuilt(cluster: Mapping[str, ndarray]) -> Observed:
    """One cluster, whose rows count from 0."""
    world = _world(cluster)
    # One executor while the arrays are made: no rule looks at single ones.
    world.options[EXECUTORS] = 1
    state = build_state(world)
    world.options[EXECUTORS] = cluster["executors"]
    jobs, listed = len(cluster["jobs"]), np.flatnonzero(cluster["schedulable"])
    source = 1 + int(cluster["source_job"])
    state.g[[SOURCE, ACTIVE, ARRIVED, PENDING]] = source, jobs, jobs, cluster["can_wait"]
    state.g[SCHEDULABLE] = len(listed)
    state.schedulable[: len(listed)] = listed
    state.active[:] = np.arange(jobs)
    state.clock[NOW] = cluster["time_ms"]
    state.stage[:, :_COUNTS] = cluster["stages"][:, :_COUNTS]
    state.stage[:, UNFINISHED_PARENTS] = ~cluster["frontier"]
    for column, name in ((SUPPLY, "supply"), (LOCAL, "local"), (OPEN, "stages_left")):
        state.job[:, column] = cluster["jobs"][:, JOB_COLUMNS.index(name)]
    state.pool[source, SET] = 1
    state.sets[1, USED] = cluster["committable"]
    return Observed(world, state)


def _world(cluster: Mapping[str, ndarray]) -> World:
    """What does not change, in the types that rules are compiled for."""
    stage_job, edges = cluster["stage_job"], cluster["edges"]
    jobs, stages = len(cluster["jobs"]), len(stage_job)
    first_stage = np.searchsorted(stage_job, np.arange(jobs + 1))
    if not jobs or (np.diff(stage_job) < 0).any() or (np.diff(first_stage) < 1).any():
        raise ValueError(
            "`stage_job` must name the jobs in their order, each at least once, got "
            f"{stage_job.tolist()!s:.200} of {jobs} jobs."
        )
    if ((edges < 0) | (edges >= stages)).any():
        raise ValueError(f"`edges` must be rows of stages, of which there are {stages}.")
    parent, child = edges.T
    if (stage_job[parent] != stage_job[child]).any():
        raise ValueError("`edges` must join stages of one job.")
    by_parent = edges[np.argsort(parent, kind="stable")]
    tiny = Workload([Job(build("", [Waves.same(1, [1.0])], []), 0.0)])
    like = build_world(tiny, slowness=np.ones(1), moving_ms=0.0, warmup_ms=0.0, reference=True)
    seen = like._replace(
        arrival_ms=cluster["time_ms"] - cluster["jobs"][:, JOB_COLUMNS.index("age_ms")],
        first_stage=first_stage,
        job_of=stage_job,
        tasks=cluster["stages"][:, STAGE_COLUMNS.index("tasks")],
        order=_order(edges, stage_job),
        rough_ms=cluster["stages"][:, STAGE_COLUMNS.index("recent_ms")],
        row=np.zeros(stages),
        first_child=np.searchsorted(by_parent[:, 0], np.arange(stages + 1)),
        child=by_parent[:, 1],
        parents=np.bincount(child, minlength=stages),
        first_edge=np.searchsorted(np.sort(stage_job[parent]), np.arange(jobs + 1)),
        edges=edges,
    )
    typed = zip(seen, like, strict=True)
    return World(*(np.ascontiguousarray(value, dtype=kind.dtype) for value, kind in typed))


def _order(edges: Int[ndarray, "edge 2"], stage_job: Int[ndarray, "stage"]) -> ndarray:
    """The stages job by job, within a job each after its parents."""
    depth = np.zeros(len(stage_job), np.int64)
    for _ in range(len(stage_job)):
        deeper = depth.copy()
        np.maximum.at(deeper, edges[:, 1], depth[edges[:, 0]] + 1)
        if (deeper == depth).all():
            return np.lexsort([depth, stage_job])
        depth = deeper
    raise ValueError("`edges` must not run in a circle.")
