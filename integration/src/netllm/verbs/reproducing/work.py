"""The work of a reproduction: pools, runs and tests, of which nothing is done twice."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from netllm import registry
from netllm.data import sources
from netllm.deciders.checkpoint_folder import weights_of
from netllm.deciders.policy_spec import PolicySpec
from netllm.report.provenance import provenance
from netllm.report.report import Report, save_document
from netllm.report.result import Result
from netllm.verbs.reproducing.backbones import make
from netllm.verbs.reproducing.experiments import Contender, Experiments, Row
from netllm.verbs.reproducing.ledger import Entry, Ledger, key_of

_log = logging.getLogger(__name__)
_MADE = ("versions", "python", "machine", "made_at", "sources")


@dataclass(frozen=True)
class Work:
    """Makes what a ledger lacks, in a folder that it goes on with when it is called again."""

    experiments: Experiments
    out: Path
    """Pools and runs lie here."""
    ledger: Ledger
    data: str | Path | None
    jobs: int
    device: str
    _places: dict[tuple[str, str], Any] = field(default_factory=dict)
    _collected: set[Path] = field(default_factory=set)

    def place(self, row: Row, setting: str) -> Any:
        """A setting of a row, read once."""
        if (row.name, setting) not in self._places:
            found = registry.task(row.task).setting(setting, data=self.data, **row.set)
            self._places[row.name, setting] = found
        return self._places[row.name, setting]

    def key(self, one: Contender, setting: str) -> str:
        """What an entry must have to answer for a contender in a setting."""
        row, place = one.row, self.place(one.row, setting)
        who = one.who(self.experiments)
        if name := who.get("checkpoint"):
            spec = PolicySpec(row.task, checkpoint=name).in_setting(place)
            who["checkpoint"] = weights_of(row.task, str(spec.found()))
        made_of = [one.sha256 for one in sources.sources(place)]
        where = {"task": row.task, "setting": setting, "episodes": row.episodes, "set": row.set}
        return key_of(who=who, where=where, data=made_of)

    def found(self, one: Contender, setting: str) -> Entry | None:
        """What the ledger has of a contender in a setting."""
        return self.ledger.find(one.row.name, one.label, setting, self.key(one, setting))

    def missing(self, one: Contender) -> list[str]:
        """The settings in which a contender has no result."""
        entries = {setting: self.found(one, setting) for setting in one.row.settings}
        return [name for name, entry in entries.items() if entry is None or entry.failed]

    def trained(self, one: Contender) -> bool:
        """Whether a model needs no training any more."""
        assert one.model is not None
        return bool(one.model.checkpoint) or (self._run(one) / "finished.json").is_file()

    def needed(self, one: Contender) -> dict[str, float | None]:
        """The pool and the backbone that a model's training needs, with the minutes these take."""
        model, whole = one.model, self.experiments
        assert model is not None
        found = {f"pool {model.pool}": whole.pools[model.pool].minutes} if model.pool else {}
        if model.backbone and not self._backbone_folder(model.backbone).exists():
            found[f"backbone {model.backbone}"] = whole.backbones[model.backbone].minutes
        return found

    def check(self, everyone: Sequence[Contender]) -> None:
        """Raise unless what lies here of those with missing results was begun by their recipes.

        Raises:
            FileExistsError: naming the folder of a pool, backbone or run of another recipe.
        """
        from netllm_adapt.files.reading import read_json

        for one in everyone:
            for folder, recipe in self._recipes(one) if self.missing(one) else ():
                path = self._recipe(folder)
                if folder.exists() and path.is_file() and read_json(path) != recipe:
                    raise FileExistsError(
                        f"{folder}: was begun by another recipe, of another --budget or version "
                        "of netllm. Choose another --out, or remove it to have it made anew."
                    )

    def do(self, one: Contender) -> None:
        """Make what a contender needs, test it where it is missing, and keep what was found.

        A recipe that fails, and a policy that cannot be built, are findings too.
        """
        missing = self.missing(one)
        for folder, recipe in self._recipes(one) if missing else ():
            save_document(recipe, self._recipe(folder))
        try:
            checkpoint = self._checkpoint(one) if missing else None
        except RuntimeError as error:
            self.ledger.add(
                one.row.name, one.label, {s: self._failed(one, s, error) for s in missing}
            )
            return
        for setting in missing:
            begun = time.monotonic()
            try:
                entry = self._entry(
                    one, setting, self._tested(one, setting, checkpoint), checkpoint
                )
                entry.made["seconds"] = round(time.monotonic() - begun, 1)
            except (registry.Unbuildable, RuntimeError) as error:
                entry = self._failed(one, setting, error)
            self.ledger.add(one.row.name, one.label, {setting: entry})

    def _failed(self, one: Contender, setting: str, error: Exception) -> Entry:
        _log.warning("%s in %s failed: %s", one.label, setting, error)
        key, command = self.key(one, setting), command_of(one, setting)
        return Entry(key=key, command=command, made=provenance(), failed=f"{error}")

    def _entry(self, one: Contender, setting: str, report: Report, checkpoint: str | None) -> Entry:
        """What a test found, without telling where runs lie on this machine."""
        made = {name: report.provenance[name] for name in _MADE if name in report.provenance}
        result = next(r for r in report.results if one.model is None or r.plan == one.model.plan)
        return Entry(
            key=self.key(one, setting),
            command=command_of(one, setting),
            made=made,
            result=named(one, result),
            notes=tuple(note.replace(checkpoint or one.name, one.label) for note in report.notes),
        )

    def _tested(self, one: Contender, setting: str, checkpoint: str | None) -> Report:
        from netllm.verbs.test import test

        how: dict[str, Any] = {"policy": one.name} if checkpoint is None else {}
        if one.model is not None:
            how = {"checkpoint": checkpoint, "plan": one.model.plan}
            how["trust_backbone"] = bool(one.model.backbone)
        return test(
            one.row.task,
            setting=setting,
            set=one.row.set,
            episodes=one.row.episodes,
            jobs=self.jobs,
            data=self.data,
            device=self.device,
            **how,
        )

    def _checkpoint(self, one: Contender) -> str | None:
        """The contender's checkpoint, made if it is not there; None of a policy."""
        if one.model is None:
            return None
        return one.model.checkpoint or str(self._adapted(one))

    def _adapted(self, one: Contender) -> Path:
        """The run of a model with one training seed."""
        from netllm.verbs.adapt import adapt

        model, out = one.model, self._run(one)
        assert model is not None
        if not self.trained(one):
            pool = self._pool(one) if model.pool else None
            began = (out / "settings.json").is_file()
            how: dict[str, Any] = {"data": self.data, "device": self.device, **one.adapt()}
            if model.backbone:
                how["backbone"] = str(self._backbone(model.backbone))
            adapt(model.task, out=out, pool=pool, resume=began, seed=one.seed, **how)
        return out

    def _pool(self, one: Contender) -> Path:
        """The pool that a model learns from; what is missing of it is collected."""
        from netllm.verbs.collect import rl_collect

        assert one.model is not None
        out = self._pool_folder(one)
        if out not in self._collected:
            how: dict[str, Any] = {"data": self.data, "jobs": self.jobs, "device": self.device}
            how |= one.rl_collect(self.experiments.pools)
            rl_collect(one.model.task, out=out, append=True, **how)
            self._collected.add(out)
        return out

    def _backbone(self, name: str) -> Path:
        """A backbone of the experiments' own, made if it is not there."""
        out = self._backbone_folder(name)
        if not out.exists():
            make(out=out, **self.experiments.backbones[name].how())
        return out

    def _recipes(self, one: Contender) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The folders that a contender needs made, with what makes each."""
        model, whole = one.model, self.experiments
        if model is None or model.checkpoint:
            return
        yield self._run(one), one.who(whole)
        if model.pool:
            yield self._pool_folder(one), one.rl_collect(whole.pools)
        if model.backbone:
            yield self._backbone_folder(model.backbone), whole.backbones[model.backbone].how()

    def _recipe(self, folder: Path) -> Path:
        """The file that remembers what makes a folder."""
        return self.out / "recipes" / folder.parent.name / f"{folder.name}.json"

    def _run(self, one: Contender) -> Path:
        return self.out / "runs" / one.run

    def _pool_folder(self, one: Contender) -> Path:
        assert one.model is not None
        fewer = f"-{one.value}" if one.model.vary == "episodes" else ""
        return self.out / "pools" / f"{one.model.pool}{fewer}"

    def _backbone_folder(self, name: str) -> Path:
        return self.out / "backbones" / name


def command_of(one: Contender, setting: str) -> str:
    """The command that repeats a finding."""
    words = ["netllm", "test", one.row.task, "--setting", setting]
    if one.model is None:
        words += ["--policy", one.name]
    else:
        words += ["--checkpoint", one.model.checkpoint or f"runs/{one.run}"]
        words += [] if one.model.plan is None else ["--plan", str(one.model.plan)]
    if one.row.episodes is not None:
        words += ["--episodes", str(one.row.episodes)]
    for name, value in one.row.set.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)


def named(one: Contender, result: Result) -> Result:
    """A result under the contender's name; of several training seeds with its recipe."""
    if one.model is None:
        return result
    result = replace(result, checkpoint=one.label, nickname=one.label)
    several = len(one.model.seeds) > 1
    return replace(result, recipe=one.recipe, training_seed=one.seed) if several else result
