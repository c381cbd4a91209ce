"""What a model reads of a setting's side information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from netllm_sims.vp.side_fields import Fields, fitted, shown

if TYPE_CHECKING:
    from netllm_adapt import Predictor


@dataclass(frozen=True)
class SideRead:
    """What a model reads of side information."""

    memory: int
    """Points of the past."""
    viewers: int
    """Other viewers."""
    horizon: int
    """Points of the future that it sees of them."""

    @classmethod
    def by(cls, model: Predictor) -> SideRead:
        """What this model reads."""
        settings = model.encoder.config()
        crowd = settings.get("crowd") or {"viewers": 0, "horizon": 0}
        return cls(settings.get("memory", 0), crowd["viewers"], crowd["horizon"])

    def of(
        self, observation: Fields, history_deg: np.ndarray, turn_deg: float
    ) -> dict[str, np.ndarray]:
        """The side information of an observation that the model reads, the world turned."""
        reads = {"memory": self.memory, "viewers": self.viewers}
        return shown(observation, history_deg, turn_deg, **reads)

    def fitted(self, fields: Fields, seen_deg: np.ndarray) -> dict[str, np.ndarray]:
        """The fields in the shape that the model reads after points were predicted."""
        batch, points = seen_deg.shape[:2]
        crowd = points + self.horizon if self.viewers else 0
        return fitted(fields, batch=batch, memory=self.memory, crowd=crowd)
