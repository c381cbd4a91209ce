"""Which experiments there are: rows of a report, the models in them, the pools they learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from operator import attrgetter
from typing import Any

import msgspec

from netllm.unknown_names import unknown

BUDGETS = ("fast", "day", "full")


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question of the report: who is best where."""

    name: str
    title: str
    paper: str
    """What the paper says of it, and where."""
    task: str
    settings: tuple[str, ...]
    policies: tuple[str, ...]
    models: tuple[str, ...]
    """Names in `models`."""
    about: tuple[str, ...] = ()
    """Labels of those whose comparisons are told; those of the first model unless given."""
    slow: tuple[str, ...] = ()
    """Who is left out of the budget `day`, beside what must be trained."""
    reduced: str = ""
    """What of the paper's experiment is left out."""
    episodes: int | None = None
    set: dict[str, Any] = {}
    """Fields of the settings to override."""
    axis: str = ""
    """What its models' `values` count."""
    subject: str = ""
    """Label of the models whose pre-training is in question; see `against`."""
    against: tuple[str, ...] = ()
    """Labels of models that lack it."""


class Backbone(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A backbone that is made for an experiment; see `backbones.make`."""

    kind: str
    layers: int
    steps: int = 300
    minutes: float | None = None
    """What it takes on two cores."""

    def how(self) -> dict[str, Any]:
        """Arguments of `backbones.make`, without a folder."""
        return {"kind": self.kind, "layers": self.layers, "steps": self.steps}


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A checkpoint, or a recipe that makes one."""

    task: str
    label: str = ""
    """What tables call it; its own name unless given."""
    checkpoint: str = ""
    """One that there is: `pretrained`, the one shipped with netllm."""
    pool: str = ""
    """A name in `pools`; empty for a task that learns from its setting."""
    backbone: str = ""
    """A name in `backbones`; the one that `adapt` names unless given."""
    vary: str = ""
    """What differs among its `values`: a field of `adapt`, one of the setting as `set.FIELD`, or
    the `episodes` of its pool."""
    values: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)
    adapt: dict[str, Any] = {}
    """Arguments of `netllm.adapt`."""
    plan: int | None = None
    """Simulations of a candidate ahead, where it decides as a planner."""
    minutes: float | None = None
    """What it takes on two cores, per seed and value."""


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A collection of experience."""

    task: str
    rl_collect: dict[str, Any] = {}
    """Arguments of `netllm.rl_collect`."""
    minutes: float | None = None
    """What it takes on two cores."""


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A question that a script of the repository answers, and where its document has the answer."""

    name: str
    title: str
    paper: str
    """What the paper says of it, and where."""
    reduced: str = ""
    """What of the paper's experiment is left out."""
    script: str
    at: str
    """Where the lines are, such as `latency`: a table of them, or a list; all of it if empty."""
    label: tuple[str, ...] = ()
    """Of a list what a line is called by."""
    columns: dict[str, str]
    """By their headings the places of the numbers in a line."""

    @property
    def document(self) -> str:
        """The name of the file that the script writes."""
        return f"{self.script}.json"

    @property
    def command(self) -> str:
        """What writes it, in a clone."""
        return f"python benchmarks/{self.script}.py --json benchmarks/results/{self.document}"


class Experiments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that a budget holds."""

    rows: tuple[Row, ...]
    models: dict[str, Model]
    pools: dict[str, Pool] = {}
    backbones: dict[str, Backbone] = {}
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True)
class Contender:
    """Who is tested in a row: a policy, or a model of one training seed."""

    row: Row
    name: str
    model: Model | None = None
    seed: int = 0
    value: int | None = None
    """One of the model's `values`."""

    @property
    def kind(self) -> str:
        """What tables call it with all its values and training seeds."""
        return (self.model and self.model.label) or self.name

    @property
    def recipe(self) -> str:
        """What tables call it with all its training seeds."""
        return self.kind if self.value is None else f"{self.kind}-{self.value}"

    @property
    def label(self) -> str:
        """What tables and files call it."""
        several = self.model is not None and len(self.model.seeds) > 1
        return f"{self.recipe}-{self.seed}" if several else self.recipe

    @property
    def training_seed(self) -> int | None:
        """None of a policy, and of a checkpoint that there is."""
        return None if self.model is None or self.model.checkpoint else self.seed

    @property
    def run(self) -> str:
        """The folder of its training."""
        of_value = [] if self.value is None else [f"{self.value}"]
        return "-".join([self.name, *of_value, f"{self.seed}"])

    def adapt(self) -> dict[str, Any]:
        """Arguments of `netllm.adapt`, without folders."""
        assert self.model is not None
        given, vary = dict(self.model.adapt), self.model.vary
        if vary.startswith("set."):
            given["set"] = {**given.get("set", {}), vary.removeprefix("set."): self.value}
        elif vary and vary != "episodes":
            given[vary] = self.value
        return given

    def rl_collect(self, pools: Mapping[str, Pool]) -> dict[str, Any]:
        """Arguments of `netllm.rl_collect` for the pool that it learns from, without folders."""
        assert self.model is not None
        fewer = {"episodes": self.value} if self.model.vary == "episodes" else {}
        return {**pools[self.model.pool].rl_collect, **fewer}

    def who(self, whole: Experiments) -> dict[str, Any]:
        """All that makes it what it is, as JSON can hold it; of a checkpoint what it is called."""
        model = self.model
        if model is None:
            return {"policy": self.name}
        plan = {} if model.plan is None else {"plan": model.plan}
        if model.checkpoint:
            return {"checkpoint": model.checkpoint, **plan}
        made: dict[str, Any] = {"adapt": self.adapt(), "seed": self.seed, **plan}
        if model.pool:
            made["rl_collect"] = self.rl_collect(whole.pools)
        if model.backbone:
            made["backbone"] = whole.backbones[model.backbone].how()
        return made


def read(budget: str) -> Experiments:
    """The experiments of a budget.

    Raises:
        ValueError: if there is no such budget.
    """
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    name = "fast" if budget == "fast" else "paper"
    text = files(__package__).joinpath(f"{name}.toml").read_bytes()
    whole = msgspec.toml.decode(text, type=Experiments)
    return whole if budget != "day" else _without_training(whole)


def _without_training(whole: Experiments) -> Experiments:
    """What there is already, tested; without the slow ones, and questions that take trainings."""
    there = {name for name, model in whole.models.items() if model.checkpoint}
    rows = [
        msgspec.structs.replace(
            row,
            models=tuple(name for name in row.models if name in there - {*row.slow}),
            policies=tuple(name for name in row.policies if name not in row.slow),
        )
        for row in whole.rows
        if not row.subject
    ]
    return msgspec.structs.replace(whole, rows=tuple(rows))


def chosen(
    experiments: Experiments, only: Sequence[str], policies: Sequence[str] = ()
) -> tuple[list[Row], list[Measure]]:
    """The rows and measures of these names; all if there are none.

    Args:
        experiments: Of a budget.
        only: The names.
        policies: Who joins the rows, but for those that ask what pre-training is worth.

    Raises:
        ValueError: for a name that none has, or policies that join no row or can have no file.
    """
    names = [*(row.name for row in experiments.rows), *(m.name for m in experiments.measures)]
    for name in only:
        if name not in names:
            raise unknown("row", name, names)
    for name in policies:
        if not only:
            raise ValueError(
                f"`policy` {name!r} needs the rows that it joins. Name them, such as --only abr."
            )
        if "/" in name or "\\" in name:
            raise ValueError(
                f"`policy` must be a name, or MODULE:CLASS, got {name!r}. Weights in a file have "
                "none: register a class that loads them as an entry point of `netllm.policies`."
            )
    rows = [row for row in experiments.rows if not only or row.name in only]
    joined = [row if row.subject else _with(row, policies) for row in rows]
    return joined, [one for one in experiments.measures if not only or one.name in only]


def _with(row: Row, policies: Sequence[str]) -> Row:
    more = [name for name in policies if name not in row.policies]
    return msgspec.structs.replace(row, policies=(*row.policies, *more))


def contenders(row: Row, models: Mapping[str, Model]) -> Iterator[Contender]:
    """All of a row, models first."""
    for name in row.models:
        model = models[name]
        for value, seed in product(model.values or (None,), model.seeds):
            yield Contender(row, name, model, seed, value)
    for name in row.policies:
        yield Contender(row, name)


def in_turn(rows: Sequence[Row], models: Mapping[str, Model]) -> list[Contender]:
    """All of some rows, in each first seeds first: cut off, it has found something of everyone."""
    each = (sorted(contenders(row, models), key=attrgetter("seed")) for row in rows)
    return [one for some in each for one in some]
