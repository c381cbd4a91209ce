"""A student of an adapted model: PPO's network, which learned to answer as the model does."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm_baselines.abr.ppo import PPO

if TYPE_CHECKING:
    from netllm_baselines.perceptron import Perceptron
    from netllm_sims.abr import Setting


class Student(PPO):
    """The levels of a perceptron that `netllm distil abr` made; it sees what `PPO` sees.

    Args:
        setting: its ladder must have as many rates as the weights.
        sample: draw levels by their probability instead of taking the most probable.
        weights: the file that `netllm distil` wrote, or an actor.

    Raises:
        ValueError: without weights, or with weights for another ladder.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        sample: bool = False,
        weights: Path | str | Perceptron | None = None,
    ) -> None:
        if weights is None:
            raise ValueError(
                "A student needs its file: make one with `netllm distil abr --checkpoint RUN --out "
                "FOLDER` and name it as student:FOLDER/student.npz."
            )
        super().__init__(setting, sample=sample, weights=weights)

    @property
    def when_unsure(self) -> float | None:
        """Below which highest probability it is unsure, as chosen on validation, if it was."""
        return when_unsure(self.actor.meta)


def when_unsure(meta: Mapping[str, Any]) -> float | None:
    """What a student's file says of being unsure."""
    value = meta.get("when_unsure")
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
