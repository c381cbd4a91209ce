"""Validation while a model learns: which episodes, which figures, which return is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from netllm.report.intervals import mean_of

if TYPE_CHECKING:
    from netllm_adapt import Adapted

    from netllm.task import Metric, Policy, Task

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
VALIDATION_SEED = 1
"""Validation episodes are drawn once for all runs, so that recipes can be compared."""


def check_target(task: Task, target_return: float | None) -> None:
    """Raise unless a model can be asked for that return: it is told as a float32."""
    if target_return is None:
        return
    if task.supervised:
        raise ValueError(
            f"adapt {task.name} takes no target return: nothing is asked for but the answer. "
            "Leave --target-return out."
        )
    if not abs(target_return) <= FLOAT32_MAX:
        raise ValueError(
            f"`target_return` must be finite and within ±{FLOAT32_MAX:.4g}, got {target_return}."
        )


def validated(
    task: Task,
    model: Any,
    setting: Any,
    count: int | None,
    experience: Any,
    target_return: float | None,
) -> dict[str, Any]:
    """How `Task.fit` validates: `validate`, `metric`, `maximise`, `finish` if it chooses.

    Args:
        task: says which metric decides.
        model: is asked for the likeliest return, until the best is known.
        setting: where it is validated.
        count: of episodes; all if None.
        experience: what it learns from, which tells the returns that it may be asked for.
        target_return: the only one of these, if it is given.
    """
    from netllm.task import PoolTask

    targets: Sequence[float] = () if target_return is None else [target_return]
    if isinstance(task, PoolTask) and model.target_return is None:
        if targets:
            raise ValueError(
                "A model that is told of no returns cannot be asked for one. Leave "
                "--target-return or --no-returns out."
            )
    elif isinstance(task, PoolTask) and not targets:
        targets = task.target_returns(experience)
    if targets:
        model.target_return = targets[0]
    metric, validate = task.metrics[0], validator(task, setting, count)
    choose = partial(choose_target, targets=targets, validate=validate, metric=metric)
    return {
        "validate": validate,
        "metric": metric.key,
        "maximise": metric.higher_is_better,
        "finish": choose if len(targets) > 1 else None,
    }


def choose_target(
    model: Any,
    targets: Sequence[float],
    validate: Callable[[Any], dict[str, float]],
    metric: Metric,
) -> None:
    """Ask for the return with which the model validates best, and note what it then reached."""
    figures = {}
    for target in targets:
        model.target_return = target
        figures[target] = validate(model)
    sign = 1 if metric.higher_is_better else -1
    model.target_return = max(targets, key=lambda target: sign * figures[target][metric.key])
    reached = figures[model.target_return]
    model.about |= {f"validation {name}": value for name, value in reached.items()}


def validator(task: Task, setting: Any, count: int | None) -> Callable[[Adapted], dict[str, float]]:
    """Figures of a model in roll-outs on the validation part."""
    episodes = task.episodes(setting, "valid", count=count, seed=VALIDATION_SEED)

    def validate(model: Adapted) -> dict[str, float]:
        return figures(task, task.policy(model, setting), setting, episodes)

    return validate


def figures(task: Task, policy: Policy, setting: Any, episodes: Sequence[Any]) -> dict[str, float]:
    """The mean of every metric of a policy over validation episodes, which processes share."""
    from netllm_adapt.training.processes import of_all, own_share

    own = own_share(episodes)
    every = of_all(task.rollout(policy, setting, own, seed=VALIDATION_SEED).rows if own else ())
    rows = task.pooled(every)
    return {metric.key: mean_of(rows, metric.key, ci=False).mean for metric in task.metrics}
