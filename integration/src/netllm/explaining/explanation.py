"""An explanation of an episode's decisions, as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm.explaining.attributions import Attribution
from netllm.explaining.rule_tree import RuleTree
from netllm.explaining.sweeps import Sweep

NOTES = (
    "An attribution says what a field added to the answer beside a neutral observation: of this "
    "model, at this decision. It says nothing about what would be right.",
    "Attention says where a model looked, which need not be what moved it.",
    "Fields that are no numbers that can be moved a little (graphs, masks, counts that the encoder "
    "takes as whole), and the answers given before, are kept as they were.",
)


@dataclass(frozen=True)
class Explanation:
    """What moved the decisions of one episode."""

    about: Mapping[str, Any]
    """Task, setting, checkpoint, episode, and what it was made with."""
    value: str
    """The number that is explained, in words."""
    neutral: str
    """What decisions are compared with, in words."""
    decisions: Sequence[Attribution]
    """In their order."""
    step: int
    """The decision of attention and sweeps."""
    attention: Float[ndarray, "layer ago"]
    """Of that decision, see `attention`."""
    ago: str
    """What attention is counted in: steps, or tokens of a predictor."""
    sweeps: Sequence[Sweep]
    """Of that decision."""
    tree: RuleTree

    @property
    def chosen(self) -> Attribution:
        """The attribution of the decision at `step`."""
        return next(one for one in self.decisions if one.step == self.step)

    def sizes(self) -> dict[str, float]:
        """By part the mean size of its total over the decisions, the largest first."""
        totals = [one.totals for one in self.decisions]
        means = {name: float(np.mean([abs(one[name]) for one in totals])) for name in totals[0]}
        return dict(sorted(means.items(), key=lambda item: -item[1]))

    def document(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            **self.about,
            "value": self.value,
            "neutral": self.neutral,
            "notes": [*NOTES],
            "sizes": self.sizes(),
            "decisions": [
                {
                    "step": one.step,
                    "answer": one.answer,
                    "value": one.value,
                    "neutral": one.neutral,
                    "attributions": one.totals,
                    "by_ago": {name: values.tolist() for name, values in one.parts.items()},
                    "left_over": one.left_over,
                }
                for one in self.decisions
            ],
            "attention": {
                "step": self.step,
                "in": self.ago,
                "mean": self.attention.mean(0).tolist(),
                "by_layer": self.attention.tolist(),
            },
            "sweeps": [_plain(one) for one in self.sweeps],
            "tree": {
                "kind": self.tree.kind,
                "rules": self.tree.text(),
                "fidelity": self.tree.fidelity,
                "rival": self.tree.rival,
                "fitted_decisions": self.tree.fitted,
                "held_out_decisions": self.tree.held_out,
            },
        }


def _plain(one: Sweep) -> dict[str, Any]:
    told = asdict(one) | {"values": one.values.tolist(), "answers": one.answers.tolist()}
    return told | {"turns": one.turns()}
