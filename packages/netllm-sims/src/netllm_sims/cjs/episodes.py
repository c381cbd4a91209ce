"""One episode: the jobs that arrive, and the luck of their tasks."""

from dataclasses import dataclass, field

from netllm_sims.cjs.durations import Durations, Replay, Sampled
from netllm_sims.cjs.jobs import Workload


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
