"""What a task is: everything that `rl_collect`, `adapt` and `test` must know of it, with defaults.

`PoolTask` is for decisions, `SupervisedTask` for predictions; `netllm.abr.task` and
`examples/congestion-control` are to be read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from netllm.report.metric import Metric
from netllm.task.observation_fields import ObservationField
from netllm.task.policy import Policy
from netllm.task.setting import described, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from netllm_adapt import Adapted, Recipe
    from netllm_adapt.training.trackers import Tracker
    from torch import nn

    from netllm.report.result import Result

Kind = TypeVar("Kind")

DEFAULT_BACKBONE = "smollm2-135m"

Draw = Callable[["Axes", "Sequence[Result]"], "Axes"]
"""A plot: draws results of one setting into the axes and returns them."""


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
    asked: float | None = None
    """Share of the decisions that reached an adapted model, where it is not asked for all."""


@dataclass(frozen=True)
class NoState:
    """Of a task whose models need nothing but their weights."""


class Task(ABC):
    """One networking task. Whatever has a value or a body here need not be written.

    `PoolTask` and `SupervisedTask` add what a decision and a prediction need.
    """

    name: str
    """What commands call it, such as `abr`."""
    metrics: tuple[Metric, ...]
    """What is reported per episode; the first is the one that decides."""
    rivals: tuple[str, ...] = ()
    """Policies that a table shows beside a checkpoint when none is named."""
    bounds: frozenset[str] = frozenset()
    """Policies that know the future: upper bounds, no rivals."""
    fallback: str = ""
    """The policy that answers where a server's model is late: a rule that needs no time."""
    published: frozenset[str] = frozenset()
    """The paper's strongest rivals: checkpoints are compared with them as well."""
    trainers: Mapping[str, str] = {}
    """`netllm train-baseline` by name: `module:function` with typed keyword arguments."""
    student: str = ""
    """What `netllm distil` makes of a model: `module:class`, see `netllm.task.student.Training`;
    its policy is registered as `student`. None if empty."""
    planner: str = ""
    """What `netllm test --plan` makes of a model: `module:class`, called with its policy, the
    setting and `draws`, with a class attribute `knows`. None if empty."""
    columns: Mapping[str, Sequence[str]] = {}
    """Names of the last axis of fields that are tables, which `netllm explain` tells apart."""
    neutral: str = ""
    """What `netllm explain` compares an observation with: `module:function`, from its numbers by
    field to the same as they may be moved along a line, and the neutral ones. Means if empty."""
    candidates: str = ""
    """Of a task whose answers differ in number: `module:function`, from what the encoder is given
    at one step to names and a table with a row for each answer, for the rule tree of `netllm
    explain`. An answer's first number is its row."""
    plots: Mapping[str, str] = {}
    """Its own plots by file name: `module:function` with `(ax, results, metric)`; see `draws`."""
    supervised: bool
    """Whether it learns from recorded right answers; else from a pool that policies collect."""
    validation: int | None = None
    """How many validation episodes a run is validated on unless told otherwise; None: all."""
    chooses: bool = True
    """Whether validation chooses the checkpoint that a run keeps; else it keeps the last one."""
    chunk: int = 64
    """Episodes of one piece of `test`'s work. Results may depend on it, never on how many run at
    once."""
    shard: int = 256
    """Episodes that are collected at once and written as one file; bounds memory."""
    presets: Mapping[str, Any] = {}
    """Its settings by name: instances of one frozen dataclass, the usual one first."""
    importers: str = ""
    """What `netllm import` knows for it: a module with `IMPORTERS`, by name with a `summary` and
    what it `makes`, and `run(name, files, out)`. None if empty."""
    recorder: str = ""
    """What `netllm record` calls for it: `module:function` with `(out, seconds=…, only=…)`, which
    lets nothing leave the machine and gives `out`, how many were `made` by kind, and the
    `settings` that use them. None if empty."""
    simulator: str = ""
    """In place of presets, a module with `settings()` and `setting(name, data=…, **overrides)`."""
    State: type = NoState
    """A frozen dataclass: what a model needs to decide, kept with a checkpoint; see `state_of`."""
    layers: int | None = None
    """How many blocks of the default backbone are kept; another backbone keeps all of them."""
    training: Mapping[str, Any] = {}
    """Fields of the best recipe found that differ from `Recipe`'s own."""

    def settings(self) -> Mapping[str, str]:
        """The settings by name, with a line about each."""
        lines: Mapping[str, str] = (
            import_module(self.simulator).settings() if self.simulator else described(self.presets)
        )
        return lines

    def setting(self, name: str, *, data: str | Path | None = None, **overrides: Any) -> Any:
        """One setting with any field overridden.

        Args:
            name: one of `settings`.
            data: folder of real data; NETLLM_DATA if None, and generated without either.
            overrides: fields of the setting by name.
        """
        if not self.simulator:
            return named(self.presets, name, overrides)
        # Other processes may work in another folder.
        folder = Path(data).resolve() if data is not None else None
        return import_module(self.simulator).setting(name, data=folder, **overrides)

    def rivals_of(self, setting: Any) -> Sequence[str]:
        """Those of `rivals` that a table of this setting shows when none is named."""
        return self.rivals

    def metrics_of(self, setting: Any) -> tuple[Metric, ...]:
        """What is reported per episode of this setting; the first is that of `metrics`."""
        return self.metrics

    def shipped(self, setting: Any) -> str:
        """Name of the shipped checkpoint, if there is one, that `pretrained` is in a setting."""
        return self.name

    def seeds(self, setting: Any) -> Sequence[int]:
        """The seeds that `test` uses unless told otherwise."""
        return (0,)

    def by_seed(self, setting: Any, part: str, seeds: Sequence[int]) -> Sequence[Any] | None:
        """The episodes that these seeds name; None where seeds are of random streams."""
        return None

    @abstractmethod
    def episodes(
        self, setting: Any, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Any]:
        """Episodes of a part (train, valid, test) of a setting; the `id` of each must differ."""

    def subsets(self, setting: Any, episodes: Sequence[Any]) -> Mapping[str, frozenset[str]]:
        """Parts of the test set that are reported on their own, as episode ids by name."""
        return {}

    def clusters(self, setting: Any, episodes: Sequence[Any]) -> Mapping[str, Mapping[str, str]]:
        """By episode its clusters, such as `{"e1": {"viewer": "user3", "video": "v7"}}`.

        Episodes that share something random depend on each other: a trace, a viewer, a video.
        Intervals are about other clusters of these kinds. An episode that is left out is a cluster
        of its own.
        """
        return {}

    @property
    def draws(self) -> Mapping[str, Draw]:
        """Plots by file name: distribution and means of the first metric, and the task's own."""
        from pkgutil import resolve_name

        from netllm.report.plots import bars, cdf

        metric = self.metrics[0]
        usual = {"cdf.png": partial(cdf, bounds=self.bounds)}
        usual["bars.png"] = partial(bars, bounds=self.bounds)
        own = {name: resolve_name(where) for name, where in self.plots.items()}
        return {name: partial(draw, metric=metric) for name, draw in {**usual, **own}.items()}

    @abstractmethod
    def rollout(
        self, policy: Policy, setting: Any, episodes: Sequence[Any], *, seed: int
    ) -> Outcome:
        """Let a policy decide in some episodes and measure it."""

    def beginning(self, episode: Any) -> Any:
        """The episode, or its beginning if it is long: policies are warmed up on it."""
        return episode

    def pooled(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """All rows of a policy, with metrics that no episode has by itself, such as an F1 score.

        A row's value must be such that the mean over rows, weighed as they are, is the metric of
        all of them together. Rows come from every call of `rollout`, which may leave such metrics
        out.
        """
        return rows

    @abstractmethod
    def experience(self, pool: Path | None, setting: Any, recipe: Recipe) -> Any:
        """What a model of this task learns from: a pool, or the setting's own training part."""

    @abstractmethod
    def encoder(self, setting: Any, recipe: Recipe, *, width: int) -> nn.Module:
        """The multimodal encoder for a backbone of some width."""

    @abstractmethod
    def head(self, setting: Any, *, width: int) -> nn.Module:
        """The networking head for a backbone of some width."""

    @abstractmethod
    def assemble(self, recipe: Recipe, **parts: Any) -> Adapted:
        """The model from its parts: `backbone`, `encoder`, `head`, `spec`."""

    @abstractmethod
    def policy(self, model: Any, setting: Any) -> Policy:
        """An adapted model as a policy."""

    def observation_fields(self, setting: Any) -> Mapping[str, ObservationField]:
        """What an observation of one episode holds, for requests to a server.

        Raises:
            ValueError: if the task does not say it, so that it cannot be served.
        """
        raise ValueError(
            f"{self.name} cannot be served: its class must say what an observation holds, in "
            "`observation_fields`."
        )

    def running(self, observation: Mapping[str, Any]) -> Mapping[int, Any] | None:
        """By `episode`, what stands in for an environment in a policy's `begin`.

        None where no policy of the task looks at more than the observation.

        Raises:
            ValueError: if the observation contradicts itself.
        """
        return None

    def recipe(self, backbone: str | None = None) -> Recipe:
        """How a backbone is adapted to it unless told otherwise: the best recipe found.

        Args:
            backbone: its name; None for the default one.
        """
        layers = self.layers if (backbone or DEFAULT_BACKBONE).endswith(DEFAULT_BACKBONE) else None
        return replace(self.usual_recipe(), layers=layers, **self.training)

    def usual_recipe(self) -> Recipe:
        """A recipe with every field's default.

        It is of a subclass where a task has more fields: they become flags of `netllm adapt`.
        """
        from netllm_adapt import Recipe

        return Recipe()

    @abstractmethod
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
        shard: bool,
        tracker: Tracker | None,
    ) -> Adapted:
        """Train the model, and return the checkpoint kept: whose `metric` in `validate` is best.

        That is the last one unless the task `chooses`. `finish` changes that checkpoint before it
        is kept for good; `inputs` are what a resumed run must agree with beside recipe and
        experience; `device` is where it learns, and where the checkpoint returned lies; `shard`
        leaves parts of frozen weights to other processes; `tracker` draws its curves.
        """


def state_of(model: Any, kind: type[Kind]) -> Kind:
    """What a model keeps in `state`, as its task's dataclass.

    Raises:
        ValueError: if a value is of another type than its field.
    """
    import msgspec

    try:
        return msgspec.convert(model.state, kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"The model's `state` must be as it was saved: {error}. Take config.json as it was."
        ) from error
