"""Named settings: how many executors and jobs, which profiles, and the numbers of the cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from netllm_sims import own_data
from netllm_sims.cjs import train_valid_test
from netllm_sims.cjs.arrivals import PATTERNS, Arrivals, rearranged
from netllm_sims.cjs.episodes import Episode, Sampled
from netllm_sims.cjs.jobs import Catalogue, Workload
from netllm_sims.cjs.tpch import MEAN_INTERARRIVAL_MS, load_tpch, sequence
from netllm_sims.data_sources import Source, generated, of_files
from netllm_sims.setting_values import (
    check_names,
    data_root,
    existing,
    natural,
    number,
    unknown,
    whole,
    word,
    yes_or_no,
)

_DESCRIPTIONS = {
    "default": "TPC-H: 200 jobs on 50 executors",
    "unseen-executors": "TPC-H: 200 jobs on 30 executors",
    "unseen-jobs": "TPC-H: 450 jobs on 50 executors",
    "unseen-both": "TPC-H: 450 jobs on 30 executors",
    "bursts": "TPC-H: 200 jobs on 50 executors; jobs come in bursts, ten at a time on average",
    "day-night": "TPC-H: 200 jobs on 50 executors; the rate of arrivals swings over two days",
    "shifted-rate": "TPC-H: 200 jobs on 50 executors; the second half comes twice as fast",
    "mixed-executors": "TPC-H: 200 jobs on 50 executors, of which every second takes twice as long",
    "alibaba": "200 seeded graphs with the statistics of Alibaba's trace of 2018 on 50 executors",
    "synthetic": "seeded random graphs: 200 jobs on 50 executors; needs no data",
}
# Jobs are drawn one by one; executors have a table with a row for each state of a stage.
_MOST = {"num_executors": 10_000, "num_jobs": 1_000_000}
_MOST_FACTOR, _MOST_MS = 1e6, 1e12
"""Longer times, from some thirty years on, leave no milliseconds to the clock, a float."""
_CHANGES: dict[str, dict[str, Any]] = {
    "unseen-executors": {"num_executors": 30},
    "unseen-jobs": {"num_jobs": 450},
    "unseen-both": {"num_executors": 30, "num_jobs": 450},
    "bursts": {"arrivals": "bursts"},
    "day-night": {"arrivals": "day-night"},
    "shifted-rate": {"arrivals": "shift"},
    "mixed-executors": {"slow_executors": 25},
    "alibaba": {"mean_interarrival_ms": 160_000.0},
}
"""Fields in which a setting differs from `default`."""

Interpolation = Literal["reference", "correct"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One configuration of the task; build it with `setting(name, …)`.

    Raises:
        ValueError: A number outside its range.
    """

    name: str
    """Name of the setting that it began as."""
    data: Path | None = None
    """Folder of the real data, if it was used."""
    synthetic: bool = False
    """Whether seeded random graphs stand in for recorded profiles."""
    jobs: Path | None = None
    """Own profiles: a Spark event log, an Alibaba `batch_task` CSV, a folder of such, or the
    published folder of `.npy` files; see `load_dags`."""
    split: bool = False
    """Whether own profiles without folders of parts are divided into training, validation and test
    by content. Else all parts draw from the same profiles, in sequences of their own, as from the
    published ones."""
    num_executors: int = 50
    """Executors of the cluster."""
    slow_executors: int = 0
    """How many of them are slow, evenly spread by their numbers. No observation tells which."""
    slow_factor: float = 2.0
    """How many times as long a task takes on a slow executor."""
    num_jobs: int = 200
    """Jobs of an episode."""
    mean_interarrival_ms: float = MEAN_INTERARRIVAL_MS
    """Mean time between two arrivals."""
    arrivals: Arrivals = "poisson"
    """When jobs arrive: `poisson` (one rate), `bursts`, `day-night`, or `shift` (the second half
    comes twice as fast); formulas in `cjs.arrivals`. The jobs are the same by each of them."""
    moving_ms: float = 2000.0
    """Time that an executor takes from one job to another."""
    warmup_ms: float = 1000.0
    """Added to the first task of an executor that just came, where no such durations are known."""
    interpolation: Interpolation = "reference"
    """Durations between two known numbers of executors: `reference` takes the nearer one less
    often the nearer it is, as every published number does; `correct` more often."""
    luck: int = 0
    """Seed of the tasks' durations."""

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(
                    f"`{name}` must be at least 1 and at most {most:,}, got {getattr(self, name)}."
                )
        if not 0 <= self.slow_executors <= self.num_executors:
            raise ValueError(
                f"`slow_executors` must be at least 0 and at most the {self.num_executors} "
                f"executors of the cluster, got {self.slow_executors}."
            )
        if not 1 <= self.slow_factor <= _MOST_FACTOR:
            raise ValueError(
                f"`slow_factor` must lie in [1, {_MOST_FACTOR:g}], got {self.slow_factor}."
            )
        for name in ("mean_interarrival_ms", "moving_ms", "warmup_ms"):
            value = getattr(self, name)
            if not 0 <= value <= _MOST_MS:
                raise ValueError(f"`{name}` must lie in [0, {_MOST_MS:g}] ms, got {value}.")
        for name, known in (("interpolation", get_args(Interpolation)), ("arrivals", PATTERNS)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}`: {unknown('way', getattr(self, name), known)}")

    def episodes(
        self,
        part: str,
        *,
        episodes: int | None = None,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
    ) -> list[Episode]:
        """Episodes of `train`, `valid` or `test`.

        Job sequences are 1000 to 1099 of `train`, 20 to 29 of `valid`, 666 to 685 of `test`. With
        `episodes`, `test` gives the first so many, `train` and `valid` random ones from ranges of
        their own (10,000 and above; 100 to 599). The unseen settings have only a `test` part.

        Args:
            part: `train`, `valid` or `test`.
            episodes: Number of episodes.
            seed: Of the random choice.
            seeds: These job sequences instead, whatever the part.

        Raises:
            ValueError: Unknown part, one that the setting lacks, a number of episodes that it
                cannot give, or a seed below 0.
        """
        train_valid_test.check(part)
        if self.name.startswith("unseen-") and part != "test":
            raise ValueError(
                f"Setting `{self.name}` has only a `test` part, got {part!r}. Train on `default`."
            )
        limit = {"test": len(train_valid_test.SEEDS["test"]), "valid": 500}.get(part)
        if episodes is not None and (episodes < 1 or (limit and episodes > limit)):
            upper = f" and at most {limit} for `{part}`" if limit else ""
            raise ValueError(f"`episodes` must be at least 1{upper}, got {episodes}.")
        chosen = train_valid_test.seeds(part, episodes, seed) if seeds is None else list(seeds)
        for sequence_seed in chosen:
            natural("seeds", sequence_seed)
        return [
            Episode(
                id=f"{number:04d}-{sequence_seed}" if len(set(chosen)) < len(chosen)
                else f"{sequence_seed}",
                seed=sequence_seed,
                jobs=self.workload(sequence_seed, part),
                durations=Sampled(self.luck),
                apart=self._apart,
            )
            for number, sequence_seed in enumerate(chosen)
        ]  # fmt: skip

    def workload(self, seed: int, part: str | None = None) -> Workload:
        """The jobs of one sequence, of own profiles those of the part, if one is named."""
        numbers = seed, self.num_jobs, self.mean_interarrival_ms
        if self.jobs is not None:
            mine = train_valid_test.own(self.jobs, part, split=self.split)
            jobs = train_valid_test.drawn(mine, *numbers)
        elif self.data is not None:
            jobs = sequence(self.catalogue, *numbers)
        else:
            jobs = train_valid_test.drawn(self.catalogue, *numbers)
        return rearranged(jobs, self.arrivals, seed, self.mean_interarrival_ms)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The jobs that it is made of, with their digest."""
        if self.jobs is not None:
            return (of_files("jobs", self.jobs, origin="own"),)
        if self.data is None:
            return (generated("jobs"),)
        file = self.data / "cjs" / "tpch.json.gz"
        return (of_files("jobs", file, origin="published", name="TPC-H"),)

    @property
    def divided(self) -> str | None:
        """How own profiles are in the parts, in a sentence; None where folders say it."""
        mine = None if self.jobs is None else train_valid_test.own_parts(self.jobs)
        if self.jobs is None or mine is None:
            return None
        if self.split:
            return own_data.sentence(self.jobs.name, "profiles", mine)
        return (
            f"Training, validation and test draw from the same {sum(map(len, mine.values()))} "
            f"profiles of {self.jobs.name}, in sequences of their own, as from the published ones. "
            "With split=true, or in folders train, valid and test, no profile is in two parts."
        )

    @property
    def _apart(self) -> bool:
        return self.jobs is not None and (self.split or bool(own_data.parts_of(self.jobs)))

    @property
    def catalogue(self) -> Catalogue:
        """The profiles that jobs are drawn from."""
        if self.jobs is not None:
            return train_valid_test.own(self.jobs)
        if self.data is not None:
            return load_tpch(self.data / "cjs" / "tpch.json.gz")
        if self.name == "alibaba":
            return train_valid_test.alibaba()
        return train_valid_test.synthetic()


def settings() -> dict[str, str]:
    """Names of the settings, each with one line on what it is."""
    return dict(_DESCRIPTIONS)


def setting(name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
    """The named setting, with any of its fields overridden.

    Args:
        name: A name of `settings()`.
        data: Folder of the real data; by default the environment variable NETLLM_DATA. Without
            either, `default` is served by seeded random graphs and says so in `synthetic`.
        overrides: Fields to change.

    Raises:
        ValueError: Unknown setting or field (with the nearest names), or a value that does not fit.
        FileNotFoundError: The real data is needed but not there.
    """
    known = [f.name for f in fields(Setting) if f.name not in ("name", "data", "synthetic")]
    check_names(name, overrides, names=list(_DESCRIPTIONS), fields=known)
    changes = {key: _value(key, value) for key, value in overrides.items()}
    mine = changes.get("jobs") is not None
    root = data_root(
        "synthetic" if mine or name == "alibaba" else name,
        data,
        holds=lambda folder: (folder / "cjs" / "tpch.json.gz").is_file(),
        needed="cjs/tpch.json.gz",
    )
    return Setting(
        name=name,
        data=root,
        synthetic=root is None and not mine,
        **{**_CHANGES.get(name, {}), **changes},
    )


def _value(field: str, value: Any) -> Any:
    if field in ("interpolation", "arrivals"):
        return word(field, value)
    if field == "jobs":
        return None if value is None else existing(field, value, "file or folder of profiles")
    if field == "split":
        return yes_or_no(field, value)
    if field == "luck":
        return natural(field, value)
    return number(field, value) if field.endswith(("_ms", "_factor")) else whole(field, value)
