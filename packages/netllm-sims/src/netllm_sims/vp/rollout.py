"""Policies, and what they predict: all windows of some clips."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.files.number_tables import MOST
from netllm_sims.session_error import SessionError
from netllm_sims.vp.clips import Clip, gathered, numbered

if TYPE_CHECKING:
    from netllm_sims.vp.settings import Setting


@runtime_checkable
class Policy(Protocol):
    """Anything that predicts the viewports that follow, for a batch of windows.

    The observation holds `viewport_deg` (batch, history, 3), the known viewports in degrees, as
    recorded; `video` (batch,), the videos' ids, text; and `time_s` (batch,), the seconds into the
    video of the last known viewport. Where the setting has a `memory` or a `crowd`, it holds the
    fields of `side_information.SideInformation` too.
    """

    def reset(self, seed: int) -> None:
        """Forget everything; random choices follow `seed`."""

    def act(self, observation: Mapping[str, ndarray]) -> Float[ndarray, "batch horizon 3"]:
        """The `horizon` viewports that follow each window, in degrees."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Predicted:
    """Predictions of one policy."""

    ids: list[str]
    """Ids of the clips."""
    predicted_deg: list[Float[ndarray, "_ horizon 3"]]
    """Viewports predicted in each clip, (window, horizon, 3)."""
    seconds: float
    """Wall time of the policy's answers."""
    decisions: int
    """Windows predicted."""


def rollout(
    policy: Policy, setting: "Setting", clips: Sequence[Clip], *, seed: int = 0, batch: int = 256
) -> Predicted:
    """Predictions of `policy` for every window of `clips`, after one reset.

    Args:
        policy: Predicts.
        setting: Says how many points to predict.
        clips: User-video pairs with their windows.
        seed: Of the policy's random choices.
        batch: Windows predicted at once, also of several clips.

    Raises:
        SessionError: A clip's history or an answer for it is not finite or above 1e15, with the
            clip and field.
        ValueError: No clips, no batch, or an answer of another shape.
    """
    if not clips:
        raise ValueError("`clips` must hold at least one clip, got none.")
    if batch < 1:
        raise ValueError(f"`batch` must be at least 1, got {batch}.")
    for clip in clips:
        _check_finite(clip.history_deg, "history_deg", clip.id, f"clip `{clip.id}`")
    lengths = [len(clip) for clip in clips]
    policy.reset(seed)
    answers, seconds = [], 0.0
    for observation in _observations(clips, batch):
        start = time.perf_counter()
        answer = policy.act(observation)
        seconds += time.perf_counter() - start
        answers.append(_checked(answer, (len(observation["time_s"]), setting.horizon, 3), policy))
    predicted = np.concatenate(answers) if answers else np.empty((0, setting.horizon, 3))
    pieces = np.split(predicted, np.cumsum(lengths)[:-1])
    for clip, piece in zip(clips, pieces, strict=True):
        of = f"{type(policy).__name__}.act for clip `{clip.id}`"
        _check_finite(piece, "answer", clip.id, of)
    return Predicted(
        ids=[clip.id for clip in clips],
        predicted_deg=pieces,
        seconds=seconds,
        decisions=sum(lengths),
    )


def _observations(clips: Sequence[Clip], batch: int) -> Iterator[dict[str, ndarray]]:
    """The windows of all clips in their order, `batch` at a time."""
    clip_of, window_of = numbered(clips)
    for begin in range(0, len(clip_of), batch):
        some = slice(begin, begin + batch)
        videos = np.array([clips[k].video for k in clip_of[some]])
        yield gathered(clips, clip_of[some], window_of[some]) | {"video": videos}


def _checked(answer: object, shape: tuple[int, ...], policy: Policy) -> ndarray:
    name = type(policy).__name__
    try:
        predicted = np.asarray(answer).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}.act must return an array of shape {shape} in degrees, got "
            f"{getattr(answer, 'dtype', type(answer).__name__)}."
        ) from None
    if predicted.shape != shape:
        raise ValueError(
            f"{name}.act must return viewports of shape {shape} (batch, horizon, 3), got "
            f"{predicted.shape}. Was it made for another horizon?"
        )
    return predicted


def _check_finite(values: ndarray, field: str, session: str, of: str) -> None:
    wrong = np.argwhere(~(np.abs(values) <= MOST))
    if len(wrong):
        window, step, _ = wrong[0]
        raise SessionError(
            f"`{field}` of {of} must be finite degrees, at most {MOST:g}, got "
            f"{values[tuple(wrong[0])]} in window {window}, step {step}.",
            session=session,
            field=field,
        )
