"""A student of an adapted model: the GRU's network, which learned to predict as the model does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from netllm_baselines.vp.gru import GRU

if TYPE_CHECKING:
    from netllm_baselines.vp.weights_file import Weights
    from netllm_sims.vp import Setting


class Student(GRU):
    """The viewports of a GRU that `netllm distil vp` made.

    Args:
        setting: names horizon, history and rate.
        weights: the file that `netllm distil` wrote, or its content.

    Raises:
        ValueError: without weights, or with weights for longer histories or another rate.
    """

    kind = "student"

    def __init__(self, setting: Setting, *, weights: Path | str | Weights | None = None) -> None:
        if weights is None:
            raise ValueError(
                "A student needs its file: make one with `netllm distil vp --checkpoint RUN --out "
                "FOLDER` and name it as student:FOLDER/student.npz."
            )
        super().__init__(setting, weights=weights)

    def _train(self) -> str:
        return "netllm distil vp --checkpoint RUN --out FOLDER"
