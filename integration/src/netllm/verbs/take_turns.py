"""Policies decide in turn, episode by episode; a labeller says what it would have done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.deciders.checkpoint_folder import fetched_folder
from netllm.deciders.policy_spec import PolicySpec
from netllm.task import PoolTask
from netllm.verbs import check_arguments
from netllm.verbs.parallel import derived_seed, noted

if TYPE_CHECKING:
    from netllm_adapt import Episode

    from netllm.task import Policy


def pool_task(name: str) -> PoolTask:
    """The task of that name, which must be one that learns from a pool.

    Raises:
        ValueError: if it learns from recorded answers.
    """
    found = registry.task(name)
    if not isinstance(found, PoolTask):
        raise ValueError(
            f"{name} learns from recorded right answers, so there is no pool to collect. "
            f"Run `netllm adapt {name} --out RUN`."
        )
    return found


def deciding(
    task: str,
    policies: str | Sequence[str],
    checkpoints: str | Path | Sequence[str | Path],
    **options: Any,
) -> list[PolicySpec]:
    """Who decides: policies, then checkpoints with their `options`.

    Raises:
        ValueError: if there is nobody.
    """
    specs = [PolicySpec(task, policy=name) for name in check_arguments.names(policies)]
    for name in check_arguments.names(checkpoints):
        folder = fetched_folder(task, name, home=Path.cwd())
        specs.append(PolicySpec(task, checkpoint=name, folder=folder, **options))
    if not specs:
        raise ValueError("rl_collect needs at least one policy, such as `--policy ppo`.")
    return specs


@dataclass(frozen=True)
class Turns:
    """Policies that take turns, episode by episode."""

    task: str
    setting: Any
    drivers: Sequence[PolicySpec]
    relabel: str | None
    soft: bool
    epsilon: float
    best_of: int

    def __post_init__(self) -> None:
        """Check share and attempts."""
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"`epsilon` must be within [0, 1], got {self.epsilon}.")
        check_arguments.check_count("best_of", self.best_of)

    def asked(self) -> list[PolicySpec]:
        """Who decides, and who labels; wrong names fail here."""
        labeller = [PolicySpec(self.task, policy=self.relabel)] if self.relabel else []
        asked = [*self.drivers, *labeller]
        for one in asked:
            one.declared(self.setting)
        return asked

    def facts(self) -> dict[str, Any]:
        """Who decides, who labels, and how, as the pool remembers it."""
        names = ("relabel", "soft", "epsilon", "best_of")
        drivers = [driver.name for driver in self.drivers]
        return {"policies": drivers, **{name: getattr(self, name) for name in names}}

    def run(self, episodes: Sequence[Any], seed: int) -> list[Episode]:
        """The episodes in order; an error says whose it was."""
        runs = []
        for turn, driver in enumerate(self.drivers[: len(episodes)]):
            labelled = f", labelled by {self.relabel!r}," if self.relabel else ""
            with noted(f"{driver.name!r}{labelled} in setting {self.setting.name!r}"):
                some = episodes[turn :: len(self.drivers)]
                runs.append(iter(self._best(driver, some, derived_seed(seed, turn))))
        return [next(runs[index % len(runs)]) for index in range(len(episodes))]

    def _best(self, driver: PolicySpec, episodes: Sequence[Any], seed: int) -> list[Episode]:
        """The best attempt at each episode."""
        task = pool_task(self.task)
        policy = driver.build(self.setting)
        how: Any = {
            "label": self._label(driver, policy),
            "soft": self.soft,
            "epsilon": self.epsilon,
        }
        best: list[Episode] = []
        for attempt in range(self.best_of):
            stream = derived_seed(seed, attempt) if attempt else seed
            done = [
                *task.record(policy, self.setting, episodes, name=driver.name, seed=stream, **how)
            ]
            pairs = zip(best or done, done, strict=True)
            best = [max(pair, key=lambda one: float(one.rewards.sum())) for pair in pairs]
        return best

    def _label(self, driver: PolicySpec, policy: Policy) -> Policy | None:
        """Who labels: the driver itself if it is named again and the task would ask it once."""
        if not self.relabel:
            return None
        if driver.policy == self.relabel and pool_task(self.task).asks_once:
            return policy
        return registry.policy(self.task, self.relabel, self.setting)
