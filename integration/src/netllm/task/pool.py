"""Tasks of decisions: a model learns from a pool of episodes that policies have collected."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.task.base import Outcome, Task
from netllm.task.observation_fields import ObservationField, fields_shown
from netllm.task.policy import Policy

if TYPE_CHECKING:
    import numpy as np
    from netllm_adapt import AdaptedModel, Episode, Pool, Ragged, Recipe
    from netllm_sims.rollout import Batch, Environment


class PoolTask(Task):
    """A task of decisions, step by step.

    Beside a name and metrics it must say its `episodes`, their `environment`, the `encoder` and the
    `head`; its settings are `presets` or a `simulator`'s.
    """

    supervised = False
    asks_once: bool = False
    """Whether a policy that relabels what it drives itself is asked once, not as two objects with
    random streams of their own; for policies that take their time."""
    teacher: str = ""
    """Whom a pool is usually collected from, and who labels in `improve` unless told otherwise."""
    reason: str = ""
    """Why an episode ends, in words, for the pool."""
    quantiles: Sequence[float] = (0.5, 0.9)
    """Of the pool's returns: what is tried as the return to ask for, the likeliest first."""

    @abstractmethod
    def environment(
        self, setting: Any, episodes: Sequence[Any], *, seed: int, record: bool
    ) -> Environment:
        """The environment of some episodes that run side by side, see `netllm_sims.rollout`.

        Args:
            setting: theirs.
            episodes: some of `episodes`.
            seed: of the environment's own noise.
            record: whether it is for a pool; else to measure a policy.
        """

    def observation_fields(self, setting: Any) -> Mapping[str, ObservationField]:
        """Those that the environment of one test episode shows, unless the task says more."""
        episodes = self.episodes(setting, "test", count=1)
        environment = self.environment(setting, episodes, seed=0, record=False)
        return fields_shown(environment.observation())

    def seen(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the model sees of an observation, and a pool keeps; all fields by default."""
        return observation

    def about(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a pool keeps of an episode, beside its steps: of its row in `rollout`."""
        return {self.metrics[0].key: row[self.metrics[0].key]}

    def rollout(
        self, policy: Policy, setting: Any, episodes: Sequence[Any], *, seed: int
    ) -> Outcome:
        """Let a policy decide in some episodes; rows are of the environment's `figures`."""
        from netllm_sims.rollout import Options, play

        rows: list[dict[str, Any]] = []
        decisions, seconds = 0, 0.0
        make = partial(self.environment, setting, seed=seed, record=False)
        for batch in play(policy, lambda some, first: make(some), episodes, Options(seed)):
            rows += _rows(batch)
            decisions += batch.decisions
            seconds += batch.seconds
        return Outcome(rows, decisions, seconds)

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
        from netllm_sims.rollout import Options, play

        options = Options(seed, record=True, label=label, soft=soft, epsilon=epsilon)
        make = partial(self.environment, setting, seed=seed, record=True)
        for batch in play(policy, lambda some, first: make(some), episodes, options):
            yield from self._recorded(batch, name, seed)

    def experience(self, pool: Path | None, setting: Any, recipe: Recipe) -> Pool:
        """The pool; such a task learns from nothing else."""
        from netllm_adapt import Pool

        if pool is None:
            driver = self.teacher or "NAME"
            raise ValueError(
                f"adapt {self.name} needs a pool: collect one with `netllm rl-collect {self.name} "
                f"--policy {driver} --out POOL` and give it as --pool POOL."
            )
        return Pool(pool)

    def assemble(self, recipe: Recipe, **parts: Any) -> AdaptedModel:
        """A model that decides step after step."""
        from netllm_adapt import AdaptedModel

        asked = 0.0 if recipe.returns else None
        return AdaptedModel(
            **parts, window=recipe.window, segment=recipe.segment, target_return=asked
        )

    def policy(self, model: AdaptedModel, setting: Any) -> Policy:
        """The model with its rolling cache of keys and values."""
        from netllm_adapt import Policy

        return Policy(model)

    def target_returns(self, experience: Pool) -> Sequence[float]:
        """Returns to try asking for at the start of an episode, the likeliest first."""
        import numpy as np

        return [float(value) for value in np.quantile(experience.returns, self.quantiles)]

    def fit(self, model: AdaptedModel, experience: Pool, **run: Any) -> AdaptedModel:
        """Learn the labels of the pool's decisions; see `netllm_adapt.fit`."""
        from netllm_adapt import fit

        return fit(model, experience, **run)

    def _recorded(self, batch: Batch, name: str, seed: int) -> Iterator[Episode]:
        """The episodes of a batch, each with its own decisions under one another."""
        import numpy as np
        from netllm_adapt import Episode, Ragged

        order, counts = batch.order()
        ends = np.cumsum(counts)
        fields = _joined([self.seen(one) for one in batch.observations], order)
        rewards = [one.astype(np.float32) for one in batch.by_episode(batch.rewards)]
        columns = {"actions": _typed(batch.by_episode(batch.actions)), "rewards": rewards}
        if batch.labels:
            columns["labels"] = _typed(batch.by_episode(batch.labels))
        final = {"reward": np.array([one[-1] for one in rewards]), **batch.environment.final()}
        last = self.seen(final)
        for k, row in enumerate(_rows(batch)):
            yield Episode(
                id=row["id"],
                policy=name,
                seed=seed,
                observations={
                    field: values.steps(ends[k] - counts[k], ends[k])
                    if isinstance(values, Ragged)
                    else values[ends[k] - counts[k] : ends[k]]
                    for field, values in fields.items()
                },
                **{column: values[k] for column, values in columns.items()},
                meta=self.about(row),
                final={
                    field: values.steps(k, k + 1).values
                    if isinstance(values, Ragged)
                    else values[k]
                    for field, values in last.items()
                },
                ended="terminated",
                reason=self.reason,
            )


def _rows(batch: Batch) -> list[dict[str, Any]]:
    """Per episode what was measured; a figure of None is left out."""
    figures = batch.environment.figures()
    rows = []
    for k, episode in enumerate(batch.episodes):
        own = {name: values[k] for name, values in figures.items() if values[k] is not None}
        plain = {
            name: value.item() if hasattr(value, "dtype") and value.ndim == 0 else value
            for name, value in own.items()
        }
        rows.append({"id": episode.id, **plain})
    return rows


def _typed(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Whole numbers of one type, whoever gave them; others as they are."""
    import numpy as np

    return [one.astype(np.int64) if one.dtype.kind in "iu" else one for one in parts]


def _joined(
    steps: Sequence[Mapping[str, np.ndarray | Ragged]], order: np.ndarray
) -> dict[str, np.ndarray | Ragged]:
    """What was seen, decision by decision, under one another in some order of rows."""
    import numpy as np
    from netllm_adapt import Ragged

    fields: dict[str, np.ndarray | Ragged] = {}
    for name, first in steps[0].items():
        values: list[Any] = [step[name] for step in steps]
        if not isinstance(first, Ragged):
            fields[name] = np.concatenate(values)[order]
            continue
        joined = np.concatenate([one.values for one in values])
        lengths = np.concatenate([np.diff(one.ptr) for one in values])
        starts, lengths = (np.cumsum(lengths) - lengths)[order], lengths[order]
        ptr = np.append(0, np.cumsum(lengths))
        rows = np.repeat(starts - ptr[:-1], lengths) + np.arange(ptr[-1])
        fields[name] = Ragged(joined[rows], ptr)
    return fields
