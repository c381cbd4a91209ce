"""What pre-training contributes: models of a row that have it, beside models that lack it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import comb

from netllm.report.intervals import Estimate
from netllm.report.training_seeds import difference_over_seeds
from netllm.verbs.reproducing.findings import Finding

CHANCE = 0.1
"""Largest chance with which all pairs of seeds of two equal recipes have one sign."""
RULE = (
    "A plus is a gain by pre-training. Of several training seeds the mean over all pairs of seeds "
    "is given, (the least to the most); told is what holds for every pair of at least three seeds "
    "each, which chance alone would do once in ten times. Of one seed each the 95 % interval over "
    "episodes is given, [from, to], which knows nothing of the luck in training."
)

KINDS = {
    "pretrained": "the language model's first blocks, frozen, with low-rank matrices",
    "random": "the same network with random weights",
    "markov": "the same network, all of whose weights were trained to tell the next state of a "
    "Markov chain of 100 states, as in Wang et al., ICLR 2024",
    "attention": "the language model's blocks whose MLPs add nothing",
    "mean": "a token is given the mean of the tokens in view, and nothing is learned but encoder "
    "and head",
    "mlp": "a small network that is trained whole, whose tokens are given the mean of those in "
    "view",
    "scratch": "a small network that is trained whole",
}
"""What the labels of rows that ask for pre-training mean."""


@dataclass(frozen=True)
class Gain:
    """What a row's `subject` has over a model that lacks pre-training, in one setting."""

    setting: str
    against: str
    value: int | None
    mean: float
    span: tuple[float, float] | None
    """The least and the most of all pairs of training seeds; of one pair its 95 % interval."""
    seeds: tuple[int, int]
    """How many of both."""

    @property
    def seeds_suffice(self) -> bool:
        """Whether chance alone would rarely bring a verdict."""
        return self.seeds == (1, 1) or 2 / comb(sum(self.seeds), self.seeds[0]) <= CHANCE

    @property
    def verdict(self) -> str:
        """`gains`, `loses`, or empty where neither can be told."""
        low, high = (self.seeds_suffice and self.span) or (0.0, 0.0)
        return "gains" if low > 0 else "loses" if high < 0 else ""

    @property
    def cell(self) -> str:
        """All of it for a table."""
        told = [f"{self.mean:+.3f}"]
        if self.span is not None:
            low, high = (f"{end:+.3f}" for end in self.span)
            told.append(f"({low} to {high})" if self.seeds != (1, 1) else f"[{low}, {high}]")
        return " ".join([*told, *([self.verdict] if self.verdict else [])])

    def where(self, axis: str) -> str:
        """Its setting, and the value of what the row varies."""
        return self.setting if self.value is None else f"{self.setting}, {axis}: {self.value:,}"


def gains(found: Finding) -> Iterator[Gain]:
    """Every comparison that a row asks for and that there are results for."""
    row, metric = found.row, found.report.metrics[0]
    sign = 1 if metric.higher_is_better else -1
    rows: dict[tuple[str, int | None], dict[str, list[list[dict[str, object]]]]] = {}
    for line, _, result in found.results():
        of = rows.setdefault((line.setting, line.who.value), {})
        of.setdefault(line.who.kind, []).append(result.episodes)
    for (setting, value), of in rows.items():
        for name in row.against:
            ours, theirs = of.get(row.subject, []), of.get(name, [])
            alone = len(ours) == len(theirs) == 1  # of several pairs the means alone are told
            each = [
                difference_over_seeds({"": a}, {"": b}, metric.key).estimate(ci=alone)
                for a, b in product(ours, theirs)
            ]
            if each:
                mean, span = _spanned(each, sign)
                yield Gain(setting, name, value, mean, span, (len(ours), len(theirs)))


def _spanned(each: Sequence[Estimate], sign: int) -> tuple[float, tuple[float, float] | None]:
    """The mean of differences, times `sign`, and its span."""
    means = [sign * one.mean for one in each]
    span: tuple[float, float] | None = (min(means), max(means))
    if len(each) == 1:
        low, high = each[0].ci95 or (0.0, 0.0)
        span = each[0].ci95 and (min(sign * low, sign * high), max(sign * low, sign * high))
    return sum(means) / len(means), span


def table(found: Finding) -> Iterator[str]:
    """All gains of a row, in Markdown: a line per model that lacks pre-training, and value."""
    some, row = [*gains(found)], found.row
    settings = [name for name in row.settings if name in {one.setting for one in some}]
    cells = {(one.against, one.value, one.setting): one.cell for one in some}
    yield f"| `{row.subject}` over | {' | '.join(settings)} |"
    yield f"|---{'|---' * len(settings)}|"
    for against, value in dict.fromkeys((one.against, one.value) for one in some):
        label = f"`{against}`" if value is None else f"`{against}`, {row.axis}: {value:,}"
        line = [cells.get((against, value, setting), "-") for setting in settings]
        yield f"| {label} | {' | '.join(line)} |"


def statement(found: Finding) -> str:
    """In a sentence where pre-training pays, how much, and where it does not; empty if unknown."""
    some, row = [*gains(found)], found.row
    if not some:
        return ""
    told = []
    for verdict in ("gains", "loses"):
        ones = [one for one in some if one.verdict == verdict]
        if ones:
            most = max(ones, key=lambda one: abs(one.mean))
            where = f"most against `{most.against}` in {most.where(row.axis)}, {most.mean:+.3f}"
            told.append(f"{verdict} in {len(ones)} ({where})")
    level = sum(not one.verdict for one in some if one.seeds_suffice)
    told += [f"no difference told in {level}"] if level else []
    few = sum(not one.seeds_suffice for one in some)
    told += [f"too few training seeds for a verdict in {few}"] if few else []
    compared = f"{len(some)} comparisons of `{row.subject}` with what lacks its pre-training"
    return f"Of {compared}: {', '.join(told)}."
