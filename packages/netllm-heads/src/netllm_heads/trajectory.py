"""Where a viewer will look: a whole horizon of viewports in one answer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Generator, Tensor, nn

from netllm_heads.angles import wrapped
from netllm_heads.follow import Follow, turns_of

_TYPICAL_DEG = 30.0  # a head moves about so far in a few seconds
_START = 1e-4  # standard deviation of the last layer: offsets start at some hundredths of a degree


class Trajectory(nn.Module):
    """All viewports of a horizon, from one hidden state, as offsets from the last viewport seen.

    A viewport is roll, pitch and yaw in degrees. An MLP on the normed state gives every step's
    offsets x, in units of 30 degrees; they enter as L·tanh(30·x / L), so no offset exceeds the
    limit L. Roll and yaw of an answer are wrapped into [-180, 180) and its pitch is held within
    [-90, 90], so every answer is a valid orientation. Before training offsets are next to zero:
    the answer is the last viewport, held.

    With `viewers` the hidden states of other viewers' tokens come before the one that answers, and
    a share of these viewers' own turns is added to the offsets (`follow.Follow`).

    Args:
        width: The backbone's width.
        horizon: Steps of an answer.
        hidden: Width of the hidden layer.
        dropout: Share of the normed state and of the hidden layer dropped while training.
        weights: What every step counts in the loss, from the first; divided by their mean. None
            if all count alike.
        limit_deg: Largest offset of the MLP; above 0, at most 180.
        viewers: Other viewers whose hidden states are read; 0 for none.
        ways: Ways to weigh them.

    Raises:
        ValueError: If a setting is out of range.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.2, a linear head for viewports. Its public
    code predicts absolute positions, divided by 180 and 90, step after step and with a squared
    error that knows no wrap-around; offsets, the single pass and the wrapped loss are ours.
    """

    def __init__(
        self,
        *,
        width: int,
        horizon: int,
        hidden: int = 256,
        dropout: float = 0.0,
        weights: Sequence[float] | None = None,
        limit_deg: float = 180.0,
        viewers: int = 0,
        ways: int = 4,
    ) -> None:
        super().__init__()
        if min(width, horizon, hidden) < 1:
            raise ValueError(
                "`width`, `horizon` and `hidden` must be at least 1, "
                f"got {width}, {horizon} and {hidden}."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1), got {dropout}.")
        if not 0 < limit_deg <= 180:
            raise ValueError(f"`limit_deg` must lie above 0 and at most at 180, got {limit_deg}.")
        self.width, self.horizon = width, horizon
        self.hidden, self.dropout = hidden, dropout
        self.weights = None if weights is None else _checked(weights, horizon)
        self.limit_deg = float(limit_deg)
        self.layers = _mlp(width, hidden, horizon * 3, dropout)
        self.viewers, self.ways, self.reads = viewers, ways, viewers + 1
        self.follow = Follow(width=width, horizon=horizon, ways=ways) if viewers else None
        self.share: Tensor
        self.register_buffer("share", _shares(self.weights, horizon), persistent=False)

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Trajectory(**config)` is the same head, new weights."""
        return {
            "width": self.width,
            "horizon": self.horizon,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "weights": None if self.weights is None else list(self.weights),
            "limit_deg": self.limit_deg,
            "viewers": self.viewers,
            "ways": self.ways,
        }

    def offsets(
        self, hidden: Float[Tensor, "batch *read width"], observation: Mapping[str, Any]
    ) -> Float[Tensor, "batch horizon 3"]:
        """Turns of roll, pitch and yaw from the last viewport, in degrees, float32.

        Args:
            hidden: As for `answer`.
            observation: As for `answer`.

        Raises:
            ValueError: As `answer` does.
        """
        states = (self.viewers + 1,) if self.viewers else ()
        if tuple(hidden.shape[1:]) != (*states, self.width):
            shape = ", ".join(["batch", *map(str, states), str(self.width)])
            raise ValueError(
                f"`hidden` must have shape ({shape}), got {tuple(hidden.shape)}: one state per "
                "row, after those of other viewers if there are any. Was the head built for "
                "another backbone?"
            )
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            query = hidden[:, -1] if self.viewers else hidden
            turns: Tensor = self.layers(query).view(-1, self.horizon, 3)
            own = self.limit_deg * torch.tanh(turns * (_TYPICAL_DEG / self.limit_deg))
            if self.follow is None:
                return own
            others = turns_of(observation, self.viewers, self.horizon)
            followed: Tensor = self.follow(query, hidden[:, :-1], *others)
        return own + followed

    def answer(
        self,
        hidden: Float[Tensor, "batch *read width"],
        observation: Mapping[str, Any],
        *,
        greedy: bool = True,
        generator: Generator | None = None,
    ) -> Float[Tensor, "batch horizon 3"]:
        """Roll, pitch and yaw of every step in degrees, float32, each a valid orientation.

        Args:
            hidden: One hidden state per row, with `viewers` those of the other viewers first;
                finite (not checked).
            observation: Holds `viewport_deg`, shape `(batch, history, 3)`, whose last point
                is where the viewer looks now; with `viewers` also `crowd_deg`, `(batch, viewer,
                history + horizon, 3)`, and `crowd_known`, `(batch, viewer)`.
            greedy: Without effect, for there is one answer, not a distribution.
            generator: Without effect, as `greedy`.

        Raises:
            ValueError: If `hidden` has another shape, or `viewport_deg` is missing or has.
        """
        last_deg = self._last_deg(hidden, observation)
        roll, pitch, yaw = (last_deg + self.offsets(hidden, observation)).unbind(-1)
        return torch.stack([wrapped(roll), pitch.clamp(-90, 90), wrapped(yaw)], dim=-1)

    def loss(
        self,
        hidden: Float[Tensor, "batch *read width"],
        observation: Mapping[str, Any],
        label: Num[Tensor, "batch horizon 3"],
    ) -> Float[Tensor, "batch"]:
        """Mean absolute error of every row in degrees, over steps (weighted) and the three axes.

        Differences are wrapped, the pitch's too, as in the paper's metric. The pitch is not held
        within its bounds here: beyond them it still has to learn the way back.

        Args:
            hidden: One hidden state per row, with `viewers` those of the other viewers first;
                finite (not checked).
            observation: Holds `viewport_deg`, as for `answer`.
            label: Roll, pitch and yaw that came, in degrees; wrapped or not; finite (not checked).

        Raises:
            ValueError: As `answer` does, or if the label has another shape.
        """
        last_deg = self._last_deg(hidden, observation)
        shape = (len(hidden), self.horizon, 3)
        if label.shape != shape:
            raise ValueError(
                f"`label` must have shape {shape}, got {tuple(label.shape)}: roll, pitch and yaw "
                "of every step. Was the head built for another horizon?"
            )
        error_deg = wrapped(
            self.offsets(hidden, observation) - wrapped(label.float() - last_deg)
        ).abs()
        return (error_deg.mean(-1) * self.share).mean(-1)

    def _last_deg(self, hidden: Tensor, observation: Mapping[str, Any]) -> Tensor:
        if "viewport_deg" not in observation:
            raise ValueError(
                f"the observation must hold 'viewport_deg', got {', '.join(observation)}. "
                "Was the head built for another task?"
            )
        viewport_deg: Tensor = observation["viewport_deg"]
        shape = tuple(viewport_deg.shape)
        if len(shape) != 3 or shape[0] != hidden.shape[0] or shape[1] < 1 or shape[2] != 3:
            raise ValueError(
                f"'viewport_deg' must have shape ({len(hidden)}, history, 3), got {shape}: roll, "
                "pitch and yaw of every point, one history per hidden state."
            )
        return viewport_deg[:, -1:].float()  # (batch, 1, 3)


def _mlp(width: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    layers = nn.Sequential(
        nn.LayerNorm(width),
        nn.Dropout(dropout),
        nn.Linear(width, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, outputs),
    )
    last: nn.Linear = layers[-1]  # type: ignore[assignment]
    nn.init.normal_(last.weight, std=_START)
    nn.init.zeros_(last.bias)
    return layers


def _shares(weights: Sequence[float] | None, horizon: int) -> Float[Tensor, " horizon"]:
    """What each step counts in the loss, 1 in the mean."""
    share = torch.ones(horizon, dtype=torch.float64)  # no list: a horizon may be mistaken
    if weights:
        share = torch.tensor(weights, dtype=torch.float64)
    return (share / share.mean()).float()


def _checked(weights: Sequence[float], horizon: int) -> tuple[float, ...]:
    weights = tuple(map(float, weights))
    if len(weights) != horizon:
        raise ValueError(
            f"`weights` must hold one weight per step, {horizon} in all, got {len(weights)}."
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(
            "`weights` must be finite, none below 0 and one above it, "
            f"got {', '.join(map(str, weights))}."
        )
    return weights
