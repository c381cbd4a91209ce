"""Viewports as text: how they are written and read, and the two parts of a model that does so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from netllm_sims.vp.metrics import wrap_deg
from torch import Tensor, nn

LIMITS_DEG = np.array([180.0, 90.0, 180.0])
"""Roll, pitch and yaw lie between these and their negatives."""

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_TASK = "Roll, pitch and yaw of a viewer's head in degrees, point by point:\n"
_LONGEST_POINT = "-179 -89 -179\n"


def is_valid(viewports_deg: Float[np.ndarray, "*any horizon 3"]) -> Bool[np.ndarray, "*any"]:
    """Whether all angles of an answer are angles: roll and yaw within ±180 degrees, pitch ±90."""
    inside = np.abs(viewports_deg) <= LIMITS_DEG
    return np.asarray(inside.all(axis=(-2, -1)))


def written(viewports_deg: Float[np.ndarray, "point 3"]) -> str:
    """A line per point: roll, pitch and yaw in whole degrees, wrapped."""
    whole = np.rint(wrap_deg(np.asarray(viewports_deg, dtype=np.float64))).astype(int)
    return "".join(f"{roll} {pitch} {yaw}\n" for roll, pitch, yaw in whole)


def read(text: str, *, horizon: int) -> Float[np.ndarray, "horizon 3"] | None:
    """The viewports of an answer in degrees; None if it is not valid.

    Valid is an answer that holds exactly 3 numbers per step, each of them a valid angle. What
    stands between numbers is ignored: an answer is not refused for words, units or brackets.
    """
    numbers = [float(number) for number in _NUMBER.findall(text)]
    if len(numbers) != horizon * 3:
        return None
    viewports_deg = np.array(numbers).reshape(horizon, 3)
    return viewports_deg if is_valid(viewports_deg) else None


class History(nn.Module):
    """The known viewports as text, for a language model's own tokenizer; nothing is learned.

    Args:
        width: the backbone's embedding width.
        history: points written, the last ones of an observation.

    Raises:
        ValueError: if `width` or `history` is below 1.
    """

    def __init__(self, *, width: int, history: int) -> None:
        super().__init__()
        if min(width, history) < 1:
            raise ValueError(
                f"`width` and `history` must be at least 1, got {width} and {history}."
            )
        self.width = width
        self.history = history

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        return {"width": self.width, "history": self.history}

    def observe(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch 0 width"]:
        """No token but those of the text."""
        seen = observation["viewport_deg"]
        return torch.zeros(len(seen), 0, self.width, device=seen.device)

    def text(self, observation: Mapping[str, Tensor]) -> list[str]:
        """What the model is told of every row.

        Raises:
            ValueError: if fewer points are known than are to be written.
        """
        seen = observation["viewport_deg"]
        if seen.shape[1] < self.history:
            raise ValueError(
                f"field 'viewport_deg' must hold at least {self.history} points, got "
                f"{seen.shape[1]}. Was the model trained on a setting with a longer history?"
            )
        return [_TASK + written(row) for row in seen[:, -self.history :].cpu().numpy()]


class Answer(nn.Module):
    """A horizon of viewports as text: `written` by a language model's own LM head, then `read`.

    Args:
        width: the backbone's width.
        horizon: steps of an answer.

    Raises:
        ValueError: if `width` or `horizon` is below 1.
    """

    def __init__(self, *, width: int, horizon: int) -> None:
        super().__init__()
        if min(width, horizon) < 1:
            raise ValueError(
                f"`width` and `horizon` must be at least 1, got {width} and {horizon}."
            )
        self.width = width
        self.horizon = horizon

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        return {"width": self.width, "horizon": self.horizon}

    @property
    def cue(self) -> str:
        """What asks for the answer."""
        return f"The next {self.horizon} points:\n"

    @property
    def longest(self) -> str:
        """An answer that is as long as a valid one in whole degrees can be."""
        return _LONGEST_POINT * self.horizon

    def texts(self, future_deg: Float[Tensor, "batch horizon 3"]) -> list[str]:
        """The right answers."""
        return [written(row) for row in future_deg.cpu().numpy()]
