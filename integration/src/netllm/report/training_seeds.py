"""Checkpoints of one recipe that differ in their training seed, and what is said over the seeds.

A result over episodes tells nothing of the luck in training: another seed gives another model. So
checkpoints of one recipe are also reported together: the mean over seeds, and its spread apart from
the interval over episodes. The verdict on a recipe resamples seeds and episodes, which cross each
other (`netllm.report.bootstrap`), and like any other needs five of both; the verdict on each seed's
model stands beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from netllm.report.intervals import Rows, Sample, differences, sample
from netllm.report.result import Result, by_setting
from netllm.task import Metric

if TYPE_CHECKING:
    from netllm_adapt.checkpoint.config import Config

SEED, RIVALS_SEED = "training seed", "training seed of the rival"
_TOLD = ("setting", "overrides", "data", "teachers", "collected by", "pool", "started from")
_APART = ("--out", "--seed", "--pool", "--jobs", "--device")


@dataclass(frozen=True)
class Lineage:
    """What a checkpoint says of its making."""

    nickname: str
    """The shortest end of its path that no other one has."""
    recipe: str = ""
    """What the checkpoints of its recipe are called, such as `seed-*`; empty if it is alone."""
    seed: int | None = None
    """Its training seed, if it says so."""


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


def found_checkpoints(names: Iterable[str], *, home: Path) -> list[str]:
    """The names, with every pattern replaced by the folders of checkpoints that it fits.

    Raises:
        ValueError: if a pattern fits no checkpoint.
    """
    found: list[str] = []
    for name in names:
        if not re.search(r"[*?\[]", name) or (home / name).exists():
            found.append(str(Path(name)))
            continue
        pattern = Path(name)
        start = Path(pattern.anchor) if pattern.is_absolute() else home
        rest = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else name
        fits = [path for path in start.glob(rest) if _is_checkpoint(path)]
        if not fits:
            raise ValueError(
                f"`--checkpoint {name}` must fit at least one folder of a run or a checkpoint, but "
                "it fits none. A run has its checkpoint in `best`."
            )
        told = [str(path if pattern.is_absolute() else path.relative_to(home)) for path in fits]
        found += sorted(told, key=_natural)
    return list(dict.fromkeys(found))


def _is_checkpoint(path: Path) -> bool:
    return any((place / "config.json").is_file() for place in (path, path / "best"))


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts seed-9 before seed-10."""
    pieces = re.findall(r"\d+|\D+", name)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def nicknames(names: Sequence[str]) -> list[str]:
    """The shortest ends of paths that tell them apart; `best` and `last` name no run."""
    parts = [Path(name).parts for name in names]
    ends = [max(1, len(own) - 1) if own[-1] in ("best", "last") else len(own) for own in parts]
    heads = [own[:end] for own, end in zip(parts, ends, strict=True)]
    if len(set(heads)) < len(heads):
        heads = parts
    for length in count(1):
        short = ["/".join(own[-length:]) for own in heads]
        if len(set(short)) == len(short) or length > max(map(len, heads)):
            return short
    raise AssertionError


def lineages(names: Sequence[str], configs: Sequence[Config]) -> dict[str, Lineage]:
    """By checkpoint its nickname, recipe and training seed.

    Those whose settings of the training agree in all but the seed are of one recipe. Recipes are
    called by what their nicknames have in common and, if that is not enough, by what they differ
    in.
    """
    short = dict(zip(names, nicknames(names), strict=True)) if names else {}
    recipes: dict[str, list[str]] = {}
    known = {name: _recipe(config) for name, config in zip(names, configs, strict=True)}
    for name, facts in known.items():
        recipes.setdefault(json.dumps(facts, sort_keys=True, default=str), []).append(name)
    seeds = {name: _seed(config, short[name]) for name, config in zip(names, configs, strict=True)}
    groups = [some for some in recipes.values() if len({seeds[one] for one in some} - {None}) > 1]
    titles = _titles([[short[one] for one in some] for some in groups])
    if len(set(titles)) < len(titles):
        unlike = _differences([known[some[0]] for some in groups])
        titles = [f"{title} [{how}]" for title, how in zip(titles, unlike, strict=True)]
    recipe_of = {one: title for some, title in zip(groups, titles, strict=True) for one in some}
    return {name: Lineage(short[name], recipe_of.get(name, ""), seeds[name]) for name in names}


def _recipe(config: Config) -> dict[str, Any]:
    """Everything that made a checkpoint but its training seed."""
    about, facts = config.about, msgspec.to_builtins(config)
    recipe = _mapping(about.get("recipe")) or {"command": _without_places(about.get("command"))}
    for settings in (recipe, facts["backbone"]):
        settings.pop("seed", None)
    told = {name: about[name] for name in _TOLD if name in about}
    parts = ("backbone", "kind", "encoder", "head", "identity")
    return {**recipe, **told, **{name: facts[name] for name in parts}}


def _mapping(value: Any) -> dict[str, Any]:
    """A copy; of what is none, none."""
    return dict(value) if isinstance(value, Mapping) else {}


def _without_places(command: Any) -> str:
    """A command without what may differ between seeds of one recipe."""
    words, kept, skip = str(command or "").split(), [], False
    for word in words:
        skip, now = word in _APART, skip
        if not (skip or now or word.partition("=")[0] in _APART):
            kept.append(word)
    return " ".join(kept)


def _seed(config: Config, nickname: str) -> int | None:
    """The training seed: that of its recipe, of its command, or the number in its name."""
    about = config.about
    if isinstance(seed := _mapping(about.get("recipe")).get("seed"), int):
        return seed
    told = re.search(r"--seed[ =](\d{1,18})\b", str(about.get("command") or ""))
    if told:
        return int(told[1])
    named = re.search(r"(\d{1,18})\D*$", nickname)
    return int(named[1]) if named else None


def _start(names: Sequence[str]) -> str:
    """The letters that all of them begin with."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike)


def _titles(groups: Sequence[Sequence[str]]) -> list[str]:
    starts = [_start(some).rstrip("0123456789") for some in groups]
    return [
        f"{start}*" if start else "+".join(some) for start, some in zip(starts, groups, strict=True)
    ]


def _differences(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for one in recipes for key in one)
    values = {key: [one.get(key) for one in recipes] for key in keys}
    unlike = [key for key, some in values.items() if any(one != some[0] for one in some)][:3]
    return [", ".join(f"{key}={_brief(one.get(key))}" for key in unlike) for one in recipes]


def _brief(value: Any) -> str:
    text = str(value["name"] if isinstance(value, Mapping) and "name" in value else value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def families(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results in one setting of each recipe that has several seeds."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.recipe:
            found.setdefault(result.recipe, []).append(result)
    return found


def trained(results: Sequence[Result], metrics: Sequence[Metric]) -> list[Trained]:
    """Every recipe with several seeds, in every setting."""
    return [
        Trained(
            setting,
            recipe,
            [one.label for one in members],
            [one.training_seed or 0 for one in members],
            {metric.key: _spread(members, metric.key) for metric in metrics},
        )
        for setting, some in by_setting(results).items()
        for recipe, members in families(some).items()
    ]


def _spread(members: Sequence[Result], key: str) -> Spread:
    samples = [sample(one.episodes, key) for one in members]
    seeds = [str(one.training_seed) for one in members]
    every = _crossed(samples, {SEED: seeds}).estimate()
    means = [one.estimate(ci=False).mean for one in samples]
    return Spread(every.mean, every.ci95, means, float(np.std(means, ddof=1)))


def difference_over_seeds(ours: Mapping[str, Rows], theirs: Mapping[str, Rows], key: str) -> Sample:
    """One recipe minus another in a metric, for each seed of both and every episode.

    Args:
        ours: rows by training seed; by any one name, if there is but one model or policy.
        theirs: those of the rival.
        key: of the metric.
    """
    pairs = [(mine, yours) for mine in ours for yours in theirs]
    kinds = {SEED: [mine for mine, _ in pairs], RIVALS_SEED: [yours for _, yours in pairs]}
    several = {
        kind: names
        for (kind, names), side in zip(kinds.items(), (ours, theirs), strict=True)
        if len(side) > 1
    }
    samples = [differences(ours[mine], theirs[yours], key) for mine, yours in pairs]
    return _crossed(samples, several)


def _crossed(samples: Sequence[Sample], kinds: Mapping[str, Sequence[str]]) -> Sample:
    """Samples of the same episodes as one, in which further clusters cross the episodes' own."""
    weights = [one.weights for one in samples if one.weights is not None]
    clusters = {
        kind: [name for one in samples for name in one.clusters[kind]]
        for kind in samples[0].clusters
    }
    for kind, names in kinds.items():
        lengths = [len(one.values) for one in samples]
        clusters[kind] = list(np.repeat(names, lengths))
    return Sample(
        np.concatenate([one.values for one in samples]),
        np.concatenate(weights) if weights else None,
        clusters,
    )
