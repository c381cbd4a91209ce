"""Jobs that arrive over time, and what the core needs of them in flat arrays."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs.dag import Dag


@dataclass(frozen=True, eq=False)
class Job:
    """A graph of stages and when it arrives.

    Raises:
        ValueError: The arrival is negative or not finite.
    """

    dag: Dag
    """What is to be done."""
    arrival_ms: float
    """When it becomes known, in ms from the start."""

    def __post_init__(self) -> None:
        if not (isfinite(self.arrival_ms) and self.arrival_ms >= 0):
            raise ValueError(
                f"`arrival_ms` of a job `{self.dag.name}` must be finite and >= 0, "
                f"got {self.arrival_ms}."
            )


class Catalogue:
    """Graphs under one another, so that jobs can share their arrays.

    Args:
        dags: The graphs, each once.
    """

    def __init__(self, dags: Sequence[Dag]) -> None:
        self.dags = tuple(dags)
        self._number = {id(dag): number for number, dag in enumerate(self.dags)}

    def __reduce__(self) -> tuple[type, tuple[tuple[Dag, ...]]]:
        """In another process the graphs are other objects, to be numbered anew."""
        return type(self), (self.dags,)

    def number(self, dag: Dag) -> int:
        """Place of the graph in the catalogue."""
        return self._number[id(dag)]

    @cached_property
    def durations_ms(self) -> Float[ndarray, "duration"]:
        """Durations of all graphs."""
        return np.concatenate([dag.durations_ms for dag in self.dags])

    @cached_property
    def cells(self) -> Int[ndarray, "row 3 8 3"]:
        """Where a stage's lists lie in `durations_ms`; rows are the stages of all graphs."""
        starts = np.cumsum([0, *(len(dag.durations_ms) for dag in self.dags)])
        tables = [dag.cells.copy() for dag in self.dags]
        for start, table in zip(starts, tables, strict=False):
            table[..., 0] += start
        return np.concatenate(tables)

    @cached_property
    def first_row(self) -> Int[ndarray, "dag"]:
        """Row of each graph's first stage."""
        return np.cumsum([0, *(dag.stages for dag in self.dags)])[:-1]


class Workload:
    """Jobs in order of arrival, numbered from 0, with their stages under one another.

    Args:
        jobs: The jobs.
        catalogue: Holds their graphs; made of them if None.

    Raises:
        ValueError: No job, or an arrival before that of the job ahead.
    """

    def __init__(self, jobs: Sequence[Job], catalogue: Catalogue | None = None) -> None:
        if not jobs:
            raise ValueError("`jobs` must hold at least one job, got none.")
        self.jobs = tuple(jobs)
        self.arrival_ms = np.array([job.arrival_ms for job in jobs], np.float64)
        early = np.flatnonzero(np.diff(self.arrival_ms) < 0)
        if len(early):
            raise ValueError(
                f"`jobs` must be in order of arrival, but job {early[0] + 1} comes at "
                f"{self.arrival_ms[early[0] + 1]} ms, after one at {self.arrival_ms[early[0]]} ms."
            )
        if catalogue is None:
            catalogue = Catalogue(list({id(job.dag): job.dag for job in jobs}.values()))
        self.catalogue = catalogue

    def __len__(self) -> int:
        return len(self.jobs)

    def at(self, arrival_ms: Float[ndarray, "job"]) -> "Workload":
        """The same jobs in the same order, arriving at other times."""
        pairs = zip(self.jobs, arrival_ms.tolist(), strict=True)
        return Workload([Job(job.dag, time_ms) for job, time_ms in pairs], self.catalogue)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the jobs and their arrivals: equal for sequences of equal content."""
        found = hashlib.sha256(self.arrival_ms.tobytes())
        for job in self.jobs:
            found.update(job.dag.digest.encode())
        return found.hexdigest()

    @cached_property
    def first_stage(self) -> Int[ndarray, "job_and_end"]:
        """First stage of each job, and the number of all stages."""
        return np.cumsum([0, *(job.dag.stages for job in self.jobs)])

    @cached_property
    def tasks(self) -> Int[ndarray, "stage"]:
        """Tasks of each stage."""
        return np.concatenate([job.dag.tasks for job in self.jobs])

    @cached_property
    def job_of(self) -> Int[ndarray, "stage"]:
        """Job of each stage."""
        return np.repeat(np.arange(len(self)), np.diff(self.first_stage))

    @cached_property
    def order(self) -> Int[ndarray, "stage"]:
        """The stages job by job, within a job each after its parents."""
        return np.concatenate(
            [job.dag.order + first for job, first in zip(self.jobs, self.first_stage, strict=False)]
        )

    @cached_property
    def rough_ms(self) -> Float[ndarray, "stage"]:
        """Initial estimate of each stage's task duration."""
        return np.concatenate([job.dag.rough_ms for job in self.jobs])

    @cached_property
    def row(self) -> Int[ndarray, "stage"]:
        """Row of each stage in the catalogue's `cells`."""
        first = self.catalogue.first_row[[self.catalogue.number(job.dag) for job in self.jobs]]
        return np.arange(len(self.job_of)) + np.repeat(
            first - self.first_stage[:-1], np.diff(self.first_stage)
        )

    @cached_property
    def edges(self) -> Int[ndarray, "edge 2"]:
        """Pairs (parent, child) of stages, job by job."""
        return np.concatenate(
            [job.dag.edges + first for job, first in zip(self.jobs, self.first_stage, strict=False)]
        )

    @cached_property
    def first_edge(self) -> Int[ndarray, "job_and_end"]:
        """First edge of each job, and the number of all edges."""
        return np.cumsum([0, *(len(job.dag.edges) for job in self.jobs)])
