"""What `test` found: results with intervals, honest comparisons, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from netllm.report.intervals import Estimate, cluster_counts, mean_of
from netllm.report.metric import Metric

_MOST_BYTES = 1 << 30
"""Of a report that is read back; one of 100,000 episodes has some tens of megabytes."""


@dataclass(frozen=True)
class Subset:
    """A part of the test set, reported on its own."""

    episodes: int
    """How many of the episodes belong to it."""
    metrics: dict[str, Estimate]
    """Mean and interval by metric."""
    clusters: dict[str, int] = field(default_factory=dict)
    """By kind how many clusters these belong to; `episode` where each is its own."""


@dataclass(frozen=True)
class Result:
    """One policy or checkpoint in one setting."""

    task: str
    """The task's name."""
    setting: str
    """The setting's name."""
    policy: str | None
    """The policy's name; None for a checkpoint."""
    checkpoint: str | None
    """The checkpoint as it was asked for; None for a policy."""
    metrics: dict[str, Estimate]
    """Mean and interval by metric."""
    episodes: list[dict[str, Any]]
    """One row per episode and seed: `id`, `seed` and every metric."""
    seconds: float
    """Wall time of policy and environment, summed over parallel runs."""
    decisions_per_s: float
    """Decisions per second of that time, which begins after a throw-away episode."""
    subsets: dict[str, Subset] = field(default_factory=dict)
    """The same as `metrics` on parts of the test set, by name."""
    sequential: bool = False
    """Whether it ran alone, episode by episode in file order, with one reset."""
    knows: str = ""
    """What it decides by beyond the observation, such as `the future`."""
    teachers: tuple[str, ...] = ()
    """Policies that a checkpoint learned from."""
    validity: float | None = None
    """Share of its answers that were valid, where it counts them."""
    student: str = ""
    """File of the student that decides in a checkpoint's place, and asks it when unsure."""
    when_unsure: float | None = None
    """Below which highest probability the student asks."""
    plan: int | None = None
    """How often a checkpoint's candidates were simulated ahead, where it planned."""
    asked: float | None = None
    """Share of its decisions that reached the checkpoint's model, where not all do."""
    data: str = ""
    """A person's own data that it was tested on, by name, with files and digest."""
    learned: int = 0
    """How many of its episodes show what a checkpoint learned from: it knows them."""
    nickname: str = ""
    """A short name for a checkpoint that no other one of the report has."""
    recipe: str = ""
    """What checkpoints are called together that differ in the training seed only."""
    training_seed: int | None = None
    """A checkpoint's training seed, where it is known."""
    place: Any = field(default=None, repr=False, compare=False)
    """The setting itself, for plots that show it; not saved, so None in what was read."""

    @property
    def label(self) -> str:
        """What tables and legends call it."""
        return self.policy or self.nickname or str(self.checkpoint)

    def document(self) -> dict[str, Any]:
        """It as one JSON-able document, without what is empty."""
        document = asdict(replace(self, place=None))
        del document["place"]
        empty = (
            "sequential",
            "knows",
            "teachers",
            "subsets",
            "data",
            "learned",
            "nickname",
            "recipe",
            "student",
        )
        for key in empty:
            if not document[key]:
                del document[key]
        for key in ("validity", "training_seed", "when_unsure", "plan", "asked"):
            if document[key] is None:
                del document[key]
        return document

    @property
    def where(self) -> str:
        """Task, setting and own data, as titles have them: own data in place of a plain setting."""
        if self.data and self.setting in ("default", "synthetic"):
            return f"{self.task} / {self.data}"
        return f"{self.task} / {self.setting}" + (f", {self.data}" if self.data else "")


@dataclass(frozen=True)
class Comparison:
    """A checkpoint against a rival, paired by episode."""

    setting: str
    """The setting's name."""
    checkpoint: str
    """The checkpoint's label."""
    rival: str
    """The rival's label."""
    role: str
    """Why this rival: `best rival`, `teacher` or `checkpoint`."""
    subset: str
    """`all`, or the name of a part of the test set."""
    metric: str
    """Key of the metric."""
    difference: Estimate
    """Checkpoint minus rival."""
    verdict: str
    """`ahead`, `behind` or `level`: an interval that holds zero decides nothing. `none` where there
    is no interval."""
    clusters: dict[str, int] = field(default_factory=dict)
    """By kind how many clusters the episodes belong to; `episode` where each is its own."""
    knows: str = ""
    """What the rival decides by beyond the observation."""


@dataclass(frozen=True)
class Trained:
    """One recipe in one setting, trained with several seeds."""

    setting: str
    """The setting's name."""
    recipe: str
    """What its checkpoints are called together."""
    checkpoints: list[str]
    """Their nicknames."""
    seeds: list[int]
    """Their training seeds, in the same order."""
    metrics: dict[str, Spread]
    """By metric what is known over the seeds."""


@dataclass(frozen=True)
class Spread:
    """A metric over training seeds."""

    mean: float
    """Of all seeds, with its interval over other seeds and other episodes."""
    ci95: tuple[float, float] | None
    """Over seeds and episodes; None with fewer than five of either."""
    over_seeds: list[float]
    """The mean over the same episodes, for each seed."""
    sd: float
    """Standard deviation over seeds, which has nothing of the episodes' spread."""


def by_setting(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each setting, in order."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.setting, []).append(result)
    return found


def best_first(results: Sequence[Result], metric: Metric) -> list[Result]:
    """Results in the order of a metric's mean."""
    sign = -1 if metric.higher_is_better else 1
    return sorted(results, key=lambda result: sign * result.metrics[metric.key].mean)


def saved_results(path: Path) -> list[Result]:
    """The results of a report that was saved.

    Raises:
        ValueError: the file holds no report.
    """
    from netllm_adapt.files.reading import read_json

    try:
        results = read_json(path, _Saved, most_bytes=_MOST_BYTES).results
        for result in results:
            _check_rows(result)
    except ValueError as error:
        raise ValueError(
            f"{path} holds no report of `netllm test` ({error}). Make one with "
            "`netllm test TASK --out FOLDER`: it is FOLDER/results.json."
        ) from error
    return [replace(result, place=None) for result in results]


class _Saved(msgspec.Struct):
    """The results of `netllm test`."""

    results: list[Result]


def _check_rows(result: Result) -> None:
    """Raise unless each row tells which episode it is and a number for every metric.

    What else rows hold is of one kind in all that hold it.
    """
    wanted = {"id": "text", **dict.fromkeys(("seed", *result.metrics), "a number")}
    kinds = dict(wanted)
    for row in result.episodes:
        found = {key: _kind(value) for key, value in row.items()}
        if wanted.keys() - found or any(kinds.setdefault(k, v) != v for k, v in found.items()):
            told = ", ".join(f"`{key}` ({kind})" for key, kind in kinds.items())
            raise ValueError(
                f"each of the `episodes` of {result.label} must hold {told}, got {str(row)[:80]}"
            )


def _kind(value: object) -> str:
    kinds = {bool: "a truth", int: "a number", float: "a number", str: "text"}
    return kinds.get(type(value), "nothing of use")


def summarise(rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> dict[str, Estimate]:
    """Mean and interval of every metric that all rows have."""
    had = [metric for metric in metrics if all(metric.key in row for row in rows)]
    means = {metric: mean_of(rows, metric.key) for metric in had}
    return {
        metric.key: mean.within(0.0, 1.0) if metric.share else mean
        for metric, mean in means.items()
    }


def subsets(
    rows: Sequence[Mapping[str, Any]],
    metrics: Sequence[Metric],
    members: Mapping[str, frozenset[str]],
) -> dict[str, Subset]:
    """The summary of every named part of the test set that has episodes in it."""
    found = {}
    for name, ids in members.items():
        part = [row for row in rows if row["id"] in ids]
        if part:
            count = len({row["id"] for row in part})
            found[name] = Subset(count, summarise(part, metrics), cluster_counts(part))
    return found
