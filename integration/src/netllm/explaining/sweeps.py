"""What would have changed a decision: one field of its newest step at other values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from netllm.explaining.contrast import Contrast
from netllm.explaining.decision import Part

FACTORS = (0.25, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6, 2.0, 2.8, 4.0)
MOST = 17
"""Values of a single number."""


@dataclass(frozen=True)
class Sweep:
    """One part at several values, all else as it was."""

    part: str
    values: Float[ndarray, "value"]
    actual: float
    factors: bool
    """Whether values are multiples of what was seen: of a part of several numbers."""
    answers: Float[ndarray, "value answer"]
    """Probabilities of the answers; of a head that answers with numbers one column, how far the
    answer lies from the one that was given."""
    chosen: int | None
    """The answer that was given; None where answers are numbers."""

    def turns(self) -> list[float]:
        """Below and above the actual value, where there is one, the next with another answer."""
        if self.chosen is None:
            return []
        others = self.values[self.answers.argmax(1) != self.chosen]
        below, above = others[others < self.actual], others[others > self.actual]
        return [float(value) for value in (*below[-1:], *above[:1])]


@torch.no_grad()
def sweep(contrast: Contrast, part: Part, seen: Float[ndarray, "number"]) -> Sweep | None:
    """The answers to one part of the newest step at other values; None if it cannot be moved.

    Args:
        contrast: the decision.
        part: what is moved. A single number takes values among those seen. Several numbers become
            multiples of what they are; where there are negative ones, of their way from neutral.
        seen: all numbers of this part in some episodes.
    """
    whole = contrast.told[part.field]
    now = _newest(contrast, part)
    own = whole[now]
    if len(own) == 1:
        values = np.unique(seen)
        values = values if len(values) <= MOST else np.linspace(seen.min(), seen.max(), MOST)
        actual, factors = float(own[0]), False
        moved = [torch.full_like(whole, float(value)) for value in values]
    else:
        values, actual, factors = np.array(FACTORS), 1.0, True
        origin = contrast.neutral[part.field] if seen.min() < 0 else torch.zeros_like(whole)
        moved = [origin + float(factor) * (whole - origin) for factor in values]
    fields = {name: one.expand(len(values), *one.shape[1:]) for name, one in contrast.told.items()}
    fields[part.field] = torch.where(now, torch.cat(moved), whole)
    if bool((fields[part.field] == whole).all()):
        return None
    answers = contrast.answers(fields)
    found = answers if contrast.chosen is not None else contrast.distance(answers)[:, None]
    return Sweep(part.name, values, actual, factors, found.cpu().numpy(), contrast.chosen)


def _newest(contrast: Contrast, part: Part) -> Tensor:
    """Which numbers of a field are the part's at the newest step; of a predictor all of its own."""
    here = torch.zeros_like(contrast.told[part.field], dtype=torch.bool)
    own = here if part.column is None else here[..., part.column]
    if contrast.decision.actions is None:
        own[...] = True
    else:
        own[:, contrast.decision.ago(part) == 0] = True
    return here
