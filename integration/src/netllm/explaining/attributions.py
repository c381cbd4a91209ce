"""Which inputs moved a decision: integrated gradients over the fields that the encoder reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from netllm.explaining.contrast import Contrast
from netllm.explaining.decision import Part

POINTS, MOST_POINTS = 4, 32
"""Points of the line between neutral and told, at which gradients are taken: twice as many where
they leave too much over."""
OF_SIZES, OF_VALUE = 0.02, 0.001
"""What may be left over: the first share of the sizes of all parts, or the second of the value."""


@dataclass(frozen=True)
class Attribution:
    """What each part added to the value of one answer, beside the neutral observation."""

    step: int
    answer: int | None
    """The answer that was given; None where answers are numbers."""
    value: float
    """Of the answer that was given, see `Contrast.value`."""
    neutral: float
    """The same on the neutral observation."""
    parts: dict[str, Float[ndarray, "ago"]]
    """By part what it added at each step, the newest first; together `value - neutral`."""
    left_over: float
    """What the sum misses of `value - neutral`, since a line has finitely many points."""

    @property
    def totals(self) -> dict[str, float]:
        """By part what it added at all steps together."""
        return {name: float(values.sum()) for name, values in self.parts.items()}

    def ranked(self) -> list[str]:
        """The parts, whose total is largest in size first."""
        return sorted(self.parts, key=lambda name: -abs(self.totals[name]))


def attribution(contrast: Contrast, parts: Sequence[Part], *, points: int = POINTS) -> Attribution:
    """What each part added to the value of a decision's answer.

    A head may read some fields itself, such as a rule's advice, where a gradient tells nothing.
    What the encoder reads is attributed by integrated gradients, with the head on what it was told;
    then, on the neutral tokens, what the head reads is made neutral, part by part, and the
    difference is attributed to the part at the newest step.

    Args:
        contrast: the decision.
        parts: whose shares are wanted, of all fields that the encoder reads.
        points: of the line, to begin with.

    Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks (ICML 2017), by
    Captum, with Gauss and Legendre's quadrature.
    """
    direct = _direct(contrast, parts)
    while True:
        found = _attribution(contrast, parts, direct, points)
        size = sum(abs(total) for total in found.totals.values())
        enough = max(OF_SIZES * size, OF_VALUE * max(abs(found.value), abs(found.neutral)))
        if abs(found.left_over) <= enough or points >= MOST_POINTS:
            return found
        points *= 2


def _attribution(
    contrast: Contrast, parts: Sequence[Part], direct: Mapping[str, float], points: int
) -> Attribution:
    slopes = _integrated(contrast, list(dict.fromkeys(part.field for part in parts)), points)
    shares = {}
    for part in parts:
        entries = part.of(slopes)[0].sum(-1).numpy()
        ago = contrast.decision.ago(part).numpy()
        shares[part.name] = np.bincount(ago, entries, minlength=int(ago.max(initial=0)) + 1)
        shares[part.name][0] += direct[part.name]
    value = float(contrast.value(contrast.answer))
    neutral = float(contrast.value(contrast.neutral_answer))
    left = value - neutral - sum(float(own.sum()) for own in shares.values())
    return Attribution(contrast.decision.step, contrast.chosen, value, neutral, shares, left)


def _integrated(contrast: Contrast, names: Sequence[str], points: int) -> dict[str, Tensor]:
    """Integrated gradients of every number of some fields."""
    from captum.attr import IntegratedGradients

    decision, told = contrast.decision, contrast.told

    def value(*moved: Tensor) -> Tensor:
        fields = {name: x.expand(len(moved[0]), *x.shape[1:]) for name, x in told.items()}
        hidden = decision.hidden({**fields, **dict(zip(names, moved, strict=True))})
        return contrast.value(decision.answers(hidden, fields))

    with torch.enable_grad():
        method: Any = IntegratedGradients(value)
        found = method.attribute(
            tuple(told[name] for name in names),
            baselines=tuple(contrast.neutral[name] for name in names),
            n_steps=points,
            method="gausslegendre",
        )
    return {name: values.detach().cpu() for name, values in zip(names, found, strict=True)}


def _direct(contrast: Contrast, parts: Sequence[Part]) -> dict[str, float]:
    """By part what the head's own reading of it adds, on the neutral tokens."""
    with torch.no_grad():
        hidden = contrast.hidden_neutral
        answers = contrast.decision.answers
        told = contrast.value(answers(hidden, contrast.told))
        return {
            part.name: float(told - contrast.value(answers(hidden, contrast.masked([part]))))
            for part in parts
        }
