"""One episode: the jobs that arrive, and how long their tasks take."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.cjs.jobs import Workload


@dataclass(frozen=True)
class Sampled:
    """Draws from the profiles by counters: the same luck for every policy.

    Each task takes two uniforms that depend on the luck, its job, its stage and its number among
    the stage's started tasks, and on nothing else: one between two numbers of executors, one for
    the place ⌊u · length⌋ in the list. They come from splitmix64's finaliser.
    """

    luck: int = 0
    """Seed of the draws."""


@dataclass(frozen=True, eq=False)
class Replay:
    """Recorded durations in the order in which tasks start.

    Raises:
        ValueError: None, or one that is negative or not finite.
    """

    durations_ms: Float[ndarray, "task"]
    """The durations, one per task of the episode."""

    def __post_init__(self) -> None:
        values = np.asarray(self.durations_ms, np.float64)
        if not values.size or not np.all(np.isfinite(values) & (values >= 0)):
            raise ValueError("`durations_ms` must hold finite durations >= 0, at least one.")


Durations = Sampled | Replay


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """A sequence of jobs, run once.

    Raises:
        ValueError: Recorded durations are fewer or more than the tasks.
    """

    id: str
    """Name, unique among the episodes that are run together."""
    seed: int
    """Of the job sequence."""
    jobs: Workload
    """The jobs."""
    durations: Durations = field(default_factory=Sampled)
    """Of their tasks."""
    apart: bool = False
    """Whether no profile of its jobs is in another part too; published ones are in all parts."""

    def __post_init__(self) -> None:
        if isinstance(self.durations, Replay):
            tasks, recorded = int(self.jobs.tasks.sum()), len(self.durations.durations_ms)
            if tasks != recorded:
                raise ValueError(
                    f"`durations` of episode `{self.id}` must hold one duration for each of its "
                    f"{tasks} tasks, got {recorded}."
                )

    @property
    def contents(self) -> frozenset[str]:
        """Digests of its sequence of jobs, and of their profiles where these are kept apart."""
        profiles = {job.dag.digest for job in self.jobs.jobs} if self.apart else set()
        return frozenset({self.jobs.digest, *profiles})
