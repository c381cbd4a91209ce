"""The rounds of an improvement: play, label, learn on, and keep what validates best."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.deciders.checkpoint_names import nicknames
from netllm.verbs.adapt import adapt
from netllm.verbs.collect import rl_collect
from netllm.verbs.improving.growing_pool import agreement, copy_pool
from netllm.verbs.take_turns import pool_task
from netllm.verbs.validation import validator

if TYPE_CHECKING:
    from netllm_adapt import Adapted, Recipe
    from netllm_adapt.training.trackers import Tracker

    from netllm.task import PoolTask
    from netllm.verbs.pool_setting import Origin

_log = logging.getLogger("netllm.steps")
_SEEDS = 20
"""Seeds of episodes that each training seed has to itself; small ones, as tasks may have few."""

Line = Mapping[str, Any]
"""What the log says of a round; without `validation`, the model has yet to learn in it."""


@dataclass(frozen=True)
class Rounds:
    """What the rounds of a run have in common."""

    origin: Origin
    """The task, and the pool to begin with."""
    out: Path
    begun_from: str
    """The checkpoint that it begins with, as it was named."""
    recipe: Recipe
    labels: Mapping[str, Any]
    """Who labels, and how, as `rl_collect` has it."""
    where: Mapping[str, Any]
    """How `rl_collect` and `adapt` find the setting, and where models compute."""
    episodes: int
    """Played in each round."""
    share: float
    """Of them that the model drives."""
    validation: int | None
    """How many validation episodes; the task's usual number if None."""
    jobs: int
    tracker: Tracker | None

    @property
    def task(self) -> PoolTask:
        """The task."""
        return pool_task(self.origin.task.name)

    @cached_property
    def place(self) -> Any:
        """The setting."""
        where = self.where
        return self.task.setting(where["setting"], data=where["data"], **where["set"])

    @property
    def count(self) -> int | None:
        """How many validation episodes; all if None."""
        return self.task.validation if self.validation is None else self.validation

    def folder(self, number: int) -> Path:
        """The run of a round; of round 0 the checkpoint that it begins with."""
        return self.out / f"round-{number}"

    def begin(self, model: Adapted, folder: Path) -> None:
        """Copy a model's checkpoint and the pool to begin with, and validate the model."""
        from netllm_adapt.files.writing import new_folder

        if self.lines():
            return
        with new_folder(self.folder(0)) as work:
            shutil.copytree(folder, work, dirs_exist_ok=True)
        if self.origin.pool is not None:
            copy_pool(self.origin.pool, self.out / "pool")
        _log.info("[0] validate what it begins with")
        validated = validator(self.task, self.place, self.count)(model)
        figures = {key: value for key, value in validated.items() if isfinite(value)}
        self._done([{"round": 0, "step": 0, "validation": figures}])

    def play(self, number: int) -> None:
        """One round; nothing if it is done."""
        lines = self.lines()
        if len(lines) == number:
            _log.info("[%d] play, and ask %s", number, self.labels["relabel"])
            begun = time.monotonic()
            agreed = self._collect(number)
            line: Line = {
                "round": number,
                "step": number * self.recipe.steps,
                "episodes": self.episodes,
                "agreement": agreed,
                "collection_s": _since(begun),
            }
            lines.append(line)
            self._write(lines)
        if "validation" in lines[number]:
            return
        _log.info("[%d] learn", number)
        begun = time.monotonic()
        model = adapt(
            self.task.name,
            pool=self.out / "pool",
            start=self.folder(number - 1),
            out=self.folder(number),
            recipe=self.recipe,
            validation=self.validation,
            resume=True,
            tracker=self.tracker,
            **self.where,
        )
        keys = {key: f"validation {key}" for key in (one.key for one in self.task.metrics)}
        figures = {key: model.about[name] for key, name in keys.items() if name in model.about}
        learned = {"updates_s": _since(begun), "validation": figures}
        self._done([*lines[:number], {**lines[number], **learned}])

    def _collect(self, number: int) -> float | None:
        """Add the round's episodes to the pool; how often the model did what its teacher would."""
        from netllm_adapt import Pool

        folder, seed = self.out / "pool", self._seed(number)
        driven = round(self.share * self.episodes)
        taught = self.episodes - driven
        turns: list[tuple[int, dict[str, Any]]] = [
            (driven, {"checkpoint": self.folder(number - 1), "seed": seed - 1}),
            (taught, {"policy": self.labels["relabel"], "seed": seed}),
        ]
        for count, driver in turns:
            if count:
                how: Any = {**driver, **self.labels, **self.where, "jobs": self.jobs}
                rl_collect(self.task.name, out=folder, episodes=count, append=True, **how)
        pool = Pool(folder)
        first = len(pool) - self.episodes
        return agreement(pool[index] for index in range(first, first + driven))

    def _seed(self, number: int) -> int:
        """The second of a round's two seeds of episodes, which no part of the first pool has."""
        seeds = [one.get("seed") for one in self.origin.collections]
        taken = max((seed for seed in seeds if isinstance(seed, int)), default=0)
        return taken + _SEEDS * self.recipe.seed + 2 * number

    def lines(self) -> list[Line]:
        """The log's, round by round."""
        from netllm_adapt.training.run_folder import read_log

        return [*read_log(self.out)] if (self.out / "log.jsonl").exists() else []

    def _done(self, lines: Sequence[Line]) -> None:
        """Keep the checkpoint of the best round so far, then note that the last one is done."""
        from netllm_adapt import Adapted

        metric = self.task.metrics[0]
        sign = 1 if metric.higher_is_better else -1
        scores = [sign * line["validation"].get(metric.key, -sign * inf) for line in lines]
        kept = scores.index(max(scores))  # the earliest of equal ones
        folder = self.folder(kept) / "best" if kept else self.folder(0)
        model = Adapted.from_pretrained(folder, trust_backbone=True)
        if kept:
            model.about.pop("started from", None)
        model.about |= {f"validation {key}": v for key, v in lines[kept]["validation"].items()}
        model.about["improved"] = {
            "from": nicknames([self.begun_from])[0],
            "kept": kept,
            "rounds": len(lines) - 1,
            "teacher": self.labels["relabel"],
            "episodes": self.episodes,
            "share": self.share,
            "steps": self.recipe.steps,
        }
        model.save_pretrained(self.out / "best")
        self._write(lines)

    def _write(self, lines: Sequence[Line]) -> None:
        from netllm_adapt.files.writing import new_file

        with new_file(self.out / "log.jsonl") as work:
            work.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
