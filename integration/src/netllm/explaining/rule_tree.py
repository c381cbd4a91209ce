"""A shallow rule tree that imitates a model's decisions, and how faithful it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy import ndarray
from torch import Tensor

from netllm.explaining.decision import Decision, Part
from netllm.explaining.neutral import Neutral
from netllm.explaining.recorded import Recorded

if TYPE_CHECKING:
    from netllm.task import Task

LEAST_LEAF = 5
"""Decisions that a leaf holds at least."""


@dataclass(frozen=True)
class Examples:
    """What a tree learns from, or is measured on."""

    names: Sequence[str]
    table: Float[ndarray, "row feature"]
    wanted: Num[ndarray, "row *answer"]
    """Of each row the answer; of candidates whether it was the one that was chosen."""
    decision: Num[ndarray, "row"]
    """The decision that each row belongs to."""


@dataclass(frozen=True)
class RuleTree:
    """A tree and its fidelity on episodes that it was not fitted to."""

    tree: Any
    names: Sequence[str]
    kind: str
    """`answers`, `candidates` or `numbers`: what its leaves say."""
    fidelity: float
    """Share of the decisions with the model's answer; of numbers R², 1 for all of the variance."""
    rival: float
    """The same of the most common answer (of candidates the most common place), or the mean."""
    fitted: int
    held_out: int
    """Decisions."""

    def text(self) -> str:
        """The rules."""
        from sklearn.tree import export_text

        return str(export_text(self.tree, feature_names=[*self.names], show_weights=False))


def rule_tree(
    fitted: Examples, held_out: Examples, kind: str, *, depth: int, seed: int
) -> RuleTree:
    """Fit a tree to some decisions, and measure it on others."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    options = {"max_depth": depth, "min_samples_leaf": LEAST_LEAF, "random_state": seed}
    make = DecisionTreeRegressor if kind == "numbers" else DecisionTreeClassifier
    tree = make(**options).fit(fitted.table, fitted.wanted)
    fidelity, rival = _MEASURES[kind](tree, fitted, held_out)
    counts = [len(np.unique(one.decision)) for one in (fitted, held_out)]
    return RuleTree(tree, fitted.names, kind, fidelity, rival, *counts)


def _answers(tree: Any, fitted: Examples, held_out: Examples) -> tuple[float, float]:
    values, counts = np.unique(fitted.wanted, return_counts=True)
    same = tree.predict(held_out.table) == held_out.wanted
    return float(same.mean()), float((held_out.wanted == values[counts.argmax()]).mean())


def _numbers(tree: Any, fitted: Examples, held_out: Examples) -> tuple[float, float]:
    total = ((held_out.wanted - held_out.wanted.mean(0)) ** 2).sum()

    def explained(predicted: ndarray) -> float:
        return float(1 - ((held_out.wanted - predicted) ** 2).sum() / max(total, 1e-12))

    wanted = tree.predict(held_out.table).reshape(held_out.wanted.shape)
    return explained(wanted), explained(fitted.wanted.mean(0))


def _candidates(tree: Any, fitted: Examples, held_out: Examples) -> tuple[float, float]:
    places = np.concatenate([np.flatnonzero(own) for own in _by_decision(fitted, fitted.wanted)])
    common = int(np.bincount(places).argmax())
    likely = tree.predict_proba(held_out.table)[:, -1]
    wanted = [int(own.argmax()) for own in _by_decision(held_out, held_out.wanted)]
    picked = [int(own.argmax()) for own in _by_decision(held_out, likely)]
    pairs = np.array([wanted, picked])
    return float((pairs[0] == pairs[1]).mean()), float((pairs[0] == common).mean())


_MEASURES: Mapping[str, Callable[[Any, Examples, Examples], tuple[float, float]]] = {
    "answers": _answers,
    "candidates": _candidates,
    "numbers": _numbers,
}


def _by_decision(examples: Examples, values: ndarray) -> list[ndarray]:
    return np.split(values, np.flatnonzero(np.diff(examples.decision)) + 1)


def examples(
    task: Task, model: Any, episodes: Sequence[Recorded], parts: Sequence[Part], neutral: Neutral
) -> tuple[str, Examples]:
    """What the leaves of a tree say, and the decisions of episodes as it reads them.

    A tree sees the newest step alone: every number of the parts, less the neutral one where the
    task has a neutral observation of its own. Where the task has `candidates`, their table.
    """
    if task.candidates:
        return "candidates", _of_candidates(resolve_name(task.candidates), episodes)
    kind = "answers" if hasattr(model.head, "distribution") else "numbers"
    fields = list(dict.fromkeys(part.field for part in parts))
    tables, wanted, names = [], [], []
    for one in episodes:
        for k, answers in enumerate(one.answers):
            step = Decision.alone(model, one, k, names=fields)
            told, start = neutral(step)
            columns = {part.name: part.of(told).flatten(1) for part in parts}
            if task.neutral:
                columns = {p.name: columns[p.name] - p.of(start).flatten(1) for p in parts}
            names = [name for part, own in columns.items() for name in _names(part, own.shape[1])]
            tables.append(torch.cat([*columns.values()], 1).cpu().numpy())
            wanted.append(_wanted(step, answers, kind))
    table = np.concatenate(tables)
    return kind, Examples(names, table, np.concatenate(wanted), np.arange(len(table)))


def _names(part: str, count: int) -> list[str]:
    return [part] if count == 1 else [f"{part}[{k}]" for k in range(count)]


@torch.no_grad()
def _wanted(step: Decision, answers: Tensor, kind: str) -> ndarray:
    """The answers; of numbers the mean over their rows, such as the points of a horizon."""
    if kind == "answers":
        return answers.flatten().cpu().numpy()
    given = step.answers(step.hidden(step.numbers), step.numbers)
    return given.flatten(1, -2).mean(1).cpu().numpy()


def _of_candidates(
    table_of: Callable[[Mapping[str, Any]], tuple[Sequence[str], Tensor]],
    episodes: Sequence[Recorded],
) -> Examples:
    """The candidates of all decisions under one another."""
    names: Sequence[str] = ()
    tables: list[ndarray] = []
    wanted, decision = [], []
    for one in episodes:
        for observation, answer in zip(one.observations, one.answers, strict=True):
            names, table = table_of(observation)
            chosen = np.zeros(len(table), np.int64)
            chosen[int(answer.flatten()[0])] = 1
            decision.append(np.full(len(table), len(tables)))
            tables.append(table.cpu().numpy())
            wanted.append(chosen)
    return Examples(names, np.concatenate(tables), np.concatenate(wanted), np.concatenate(decision))
