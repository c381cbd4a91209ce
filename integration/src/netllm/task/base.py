"""What a task is: the shape that `rl_collect`, `adapt` and `test` work with.

A task module says everything about one networking task: which environment, which encoder fields,
which head, which rivals, which metric. `netllm.abr` is the example to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from netllm.report.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from netllm_adapt import Adapted, Episode, Recipe
    from torch import nn

    from netllm.report.result import Result


class Policy(Protocol):
    """Anything that decides: a rule, a planner, a trained network, an adapted model.

    Observations and actions carry a leading batch axis. A policy whose numbers depend on state or a
    random stream carried across episodes sets `sequential = True` and is then rolled out alone. One
    that may fail to give a valid answer, and then puts another in its place, keeps the share of its
    own that were valid since the last reset as `validity`; reports show it. One that decides by
    more than the observation says what that is in a few words as `knows`; reports show that too.
    """

    def reset(self, seed: int) -> None:
        """Begin new episodes; `seed` starts its random stream."""
        ...

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The next action of every episode."""
        ...


class Setting(Protocol):
    """One environment configuration of a task.

    It may name the fields that change what is trained on, and nothing that is tested, in
    `training_fields`; the data that it is made of in `sources` (`netllm_sims.sources.Source`); and
    in `divided` how a person's own data became parts. Its episodes may have `contents`, digests
    of what they show: who has learned from one of them is marked where it is tested on it.

    If it is a dataclass, `netllm COMMAND TASK --help` lists its fields with the docstrings under
    them; `netllm.task.fields` knows of `fixed_fields` and `inner_fields`.
    """

    @property
    def name(self) -> str:
        """Its name, such as `default`."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether seeded generators serve it, because there is no real data."""
        ...


def training_fields(setting: Any) -> frozenset[str]:
    """Fields of a setting that change what is trained on and nothing else, as it says itself."""
    return frozenset(getattr(setting, "training_fields", ()))


def clusters(task: Any, setting: Any, episodes: Sequence[Any]) -> Mapping[str, Mapping[str, str]]:
    """By episode its clusters, as the task's method `clusters(setting, episodes)` names them.

    Episodes that share something random depend on each other: a trace, a viewer, a video. Each
    belongs to a cluster of every kind, such as `{"e1": {"viewer": "user3", "video": "v7"}}`, and
    intervals are about other clusters of these kinds. Without that method, or for an episode that
    it leaves out, every episode is a cluster of its own.
    """
    named = getattr(task, "clusters", None)
    return {} if named is None else named(setting, episodes)


@dataclass(frozen=True)
class Outcome:
    """What a policy did in a run of episodes."""

    rows: Sequence[Mapping[str, Any]]
    """Per episode its `id` and its value of every metric; `weight` where episodes do not count
    alike, such as by the number of predictions in them."""
    decisions: int
    """How often the policy was asked."""
    seconds: float
    """Wall time of policy and environment together."""
    validity: float | None = None
    """Share of the answers that were valid, where the policy counts them."""


Draw = Callable[["Axes", "Sequence[Result]"], "Axes"]
"""A plot: draws results of one setting into the axes and returns them."""


class Task(Protocol):
    """One networking task.

    It may name episodes that depend on each other by a method `clusters`; see the function of that
    name in this module.
    """

    name: str
    """`abr`, `cjs`, `vp` or a third party's."""
    metrics: tuple[Metric, ...]
    """What is reported per episode; the first is the one that decides."""
    rivals: tuple[str, ...]
    """Policies that a table shows beside a checkpoint when none is named."""
    bounds: frozenset[str]
    """Policies that know the future: upper bounds, no rivals."""
    published: frozenset[str]
    """The paper's strongest rivals: checkpoints are compared with them as well."""
    trainers: Mapping[str, str]
    """`netllm train-baseline` by name: `module:function` with typed keyword arguments."""
    draws: Mapping[str, Draw]
    """Plots by file name."""
    supervised: bool
    """Whether it learns from recorded right answers; else from a pool that policies collect."""
    validation: int | None
    """How many validation episodes a run is validated on unless told otherwise; None: all."""
    chooses: bool
    """Whether validation chooses the checkpoint that a run keeps; else it keeps the last one."""

    chunk: int
    """Episodes of one piece of `test`'s work. Results may depend on it, never on how many run at
    once."""
    shard: int
    """Episodes that are collected at once and written as one file; bounds memory."""

    def settings(self) -> Mapping[str, str]:
        """The settings by name, with a line about each."""
        ...

    def setting(self, name: str, *, data: str | Path | None, **overrides: Any) -> Setting:
        """One setting; real data from `data`, else from NETLLM_DATA, else generated."""
        ...

    def seeds(self, setting: Any) -> Sequence[int]:
        """The seeds that `test` uses unless told otherwise."""
        ...

    def by_seed(self, setting: Any, part: str, seeds: Sequence[int]) -> Sequence[Any] | None:
        """The episodes that these seeds name; None where seeds are of random streams."""
        ...

    def episodes(self, setting: Any, part: str, *, count: int | None, seed: int) -> Sequence[Any]:
        """Episodes of a part (train, valid, test) of a setting; each has an `id`."""
        ...

    def subsets(self, setting: Any, episodes: Sequence[Any]) -> Mapping[str, frozenset[str]]:
        """Parts of the test set that are reported on their own, as episode ids by name."""
        ...

    def rollout(
        self, policy: Policy, setting: Any, episodes: Sequence[Any], *, seed: int
    ) -> Outcome:
        """Let a policy decide in some episodes and measure it."""
        ...

    def record(
        self,
        policy: Policy,
        setting: Any,
        episodes: Sequence[Any],
        *,
        name: str,
        seed: int,
        label: Policy | None,
        soft: bool,
        epsilon: float,
    ) -> Iterator[Episode]:
        """Let a policy, called `name`, decide in some episodes and keep what happened.

        With a share of `epsilon` uniformly random actions; `label` says what it would have done in
        every visited state, or, if `soft`, with which probability.
        """
        ...

    def experience(self, pool: Path | None, setting: Any, recipe: Recipe) -> Any:
        """What a model of this task learns from: a pool, or the setting's own training part."""
        ...

    def encoder(self, setting: Any, recipe: Recipe, *, width: int) -> nn.Module:
        """The multimodal encoder for a backbone of some width."""
        ...

    def head(self, setting: Any, *, width: int) -> nn.Module:
        """The networking head for a backbone of some width."""
        ...

    def assemble(self, recipe: Recipe, **parts: Any) -> Adapted:
        """The model from its parts: `backbone`, `encoder`, `head`, `spec`."""
        ...

    def policy(self, model: Any, setting: Any) -> Policy:
        """An adapted model as a policy."""
        ...

    def recipe(self, backbone: str) -> Recipe:
        """How a backbone is adapted to it unless told otherwise: the best recipe found."""
        ...

    def target_returns(self, experience: Any) -> Sequence[float]:
        """Returns to try asking for at the start of an episode, the likeliest first, if any."""
        ...

    def fit(
        self,
        model: Any,
        experience: Any,
        *,
        recipe: Recipe,
        out: Path,
        validate: Callable[[Any], dict[str, float]],
        metric: str,
        maximise: bool,
        finish: Callable[[Any], None] | None,
        resume: bool,
        inputs: Mapping[str, Any],
        device: str,
    ) -> Adapted:
        """Train the model, and return the checkpoint kept: whose `metric` in `validate` is best.

        That is the last one unless the task `chooses`. `finish` changes that checkpoint before it
        is kept for good; `inputs` are what a resumed run must agree with beside recipe and
        experience; `device` is where it learns, and where the checkpoint returned lies.
        """
        ...
