"""Which checkpoints are meant by names and patterns, what they are called, and who are siblings.

Checkpoints of one recipe that differ in their training seed alone are siblings: they are also
reported together, see `netllm.report.training_seeds`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from netllm.deciders.checkpoint_folder import folder_of_run

if TYPE_CHECKING:
    from netllm_adapt.checkpoint.config import Config

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
        fits = [path for path in start.glob(rest) if folder_of_run(path)]
        if not fits:
            raise ValueError(
                f"`--checkpoint {name}` must fit at least one folder of a run or a checkpoint, but "
                "it fits none. A run has its checkpoint in `best`."
            )
        told = [str(path if pattern.is_absolute() else path.relative_to(home)) for path in fits]
        found += sorted(told, key=_natural)
    return list(dict.fromkeys(found))


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
    told = about.get("recipe")
    recipe = dict(told) if isinstance(told, Mapping) and told else _without_places(about)
    for settings in (recipe, facts["backbone"]):
        settings.pop("seed", None)
    parts = ("backbone", "kind", "encoder", "head", "identity")
    own = {name: about[name] for name in _TOLD if name in about}
    whole = {**recipe, **own, **{name: facts[name] for name in parts}}
    improved = about.get("improved")
    return _of_rounds(whole, improved) if isinstance(improved, Mapping) else whole


def _of_rounds(recipe: Mapping[str, Any], improved: Mapping[str, Any]) -> dict[str, Any]:
    """The same of an improved checkpoint, without what its own seed has led to."""
    led_to = ("steps", "collected by", "pool", "started from")
    told = {name: value for name, value in improved.items() if name not in ("from", "kept")}
    kept = {name: value for name, value in recipe.items() if name not in led_to}
    return {**kept, **told, "identity": recipe["identity"]["sources"]}


def _without_places(about: Mapping[str, Any]) -> dict[str, Any]:
    """The command of a version that kept no recipe, less what may differ between its seeds."""
    words, kept, skip = str(about.get("command") or "").split(), [], False
    for word in words:
        skip, now = word in _APART, skip
        if not (skip or now or word.partition("=")[0] in _APART):
            kept.append(word)
    return {"command": " ".join(kept)}


def _seed(config: Config, nickname: str) -> int | None:
    """The training seed: that of its recipe, of its command, or the number in its name."""
    recipe = config.about.get("recipe")
    if isinstance(recipe, Mapping) and isinstance(seed := recipe.get("seed"), int):
        return seed
    command = str(config.about.get("command") or "")
    told = re.search(r"--seed[ =](\d{1,18})\b", command) or re.search(r"(\d{1,18})\D*$", nickname)
    return int(told[1]) if told else None


def _titles(groups: Sequence[Sequence[str]]) -> list[str]:
    """What the nicknames of each group begin with, or all of them."""
    starts = [commonprefix(some).rstrip("0123456789") for some in groups]  # noqa: RUF071
    return [f"{one}*" if one else "+".join(some) for one, some in zip(starts, groups, strict=True)]


def _differences(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for one in recipes for key in one)
    values = {key: [one.get(key) for one in recipes] for key in keys}
    unlike = [key for key, some in values.items() if any(one != some[0] for one in some)][:3]
    return [", ".join(f"{key}={_brief(one.get(key))}" for key in unlike) for one in recipes]


def _brief(value: Any) -> str:
    text = str(value["name"] if isinstance(value, Mapping) and "name" in value else value)
    return text if len(text) <= 40 else f"{text[:39]}…"
