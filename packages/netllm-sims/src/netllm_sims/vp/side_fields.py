"""Side information as predictors read it: of windows to learn from, and in a fixed shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from netllm_sims.vp.clips import Clip, gathered, numbered
from netllm_sims.vp.geometry import mirrored, turned
from netllm_sims.vp.side_information import apart_rad

VIEWERS = 16
"""Other viewers that a predictor reads; more of them add little, see `docs/tasks/vp.md`."""
ALIKE = 5
"""Points of the history by which viewers are compared."""
_NOBODY, _FEW = 0.1, 0.5
"""A tenth of the training windows shows nobody, the others a share that is often high."""

Fields = Mapping[str, ndarray]


def nearest(
    history_deg: Float[ndarray, "batch history 3"], fields: Fields, viewers: int
) -> dict[str, ndarray]:
    """The fields with the crowd cut to the viewers who looked the most alike, the nearest first.

    The mean angle between directions over the last second decides; who is not known comes last.

    Args:
        history_deg: The viewer's own points.
        fields: `crowd_deg` (batch, viewer, point, 3) and `crowd_known` (batch, viewer); others
            stay as they are. Without them nobody is known.
        viewers: How many to keep; fewer are filled up with viewers that are not known.
    """
    if "crowd_deg" not in fields:
        shape = len(history_deg), viewers
        nobody = np.zeros((*shape, history_deg.shape[1], 3)), np.zeros(shape, dtype=bool)
        return {**fields, "crowd_deg": nobody[0], "crowd_known": nobody[1]}
    crowd_deg, known = fields["crowd_deg"], fields["crowd_known"]
    if (missing := viewers - known.shape[1]) > 0:
        crowd_deg = np.pad(crowd_deg, ((0, 0), (0, missing), (0, 0), (0, 0)))
        known = np.pad(known, ((0, 0), (0, missing)))
    apart = apart_rad(history_deg, crowd_deg, known, points=ALIKE)
    order = np.argsort(apart, axis=1, kind="stable")[:, :viewers]
    return {
        **fields,
        "crowd_deg": np.take_along_axis(crowd_deg, order[:, :, None, None], axis=1),
        "crowd_known": np.take_along_axis(known, order, axis=1),
    }


def shown(
    observation: Fields,
    history_deg: Float[ndarray, "batch history 3"],
    turn_deg: float,
    *,
    memory: int,
    viewers: int,
) -> dict[str, ndarray]:
    """The side information of an observation that a predictor reads, the world turned.

    Args:
        observation: What a setting shows; its other fields are left out.
        history_deg: The viewer's own points, turned already.
        turn_deg: How far, in yaw.
        memory: Points of the past that it reads; 0 for none.
        viewers: Other viewers that it reads; 0 for none.
    """
    names = ("memory",) * bool(memory) + ("crowd",) * bool(viewers)
    fields = {
        name: turned(values, turn_deg) if name.endswith("_deg") else values
        for name, values in observation.items()
        if name.partition("_")[0] in names
    }
    return nearest(history_deg, fields, viewers) if viewers else fields


def fitted(fields: Fields, *, batch: int, memory: int = 0, crowd: int = 0) -> dict[str, ndarray]:
    """Side information in the shape that a predictor reads, whatever the setting shows of it.

    Points of the past that are missing are not known. Of other viewers points beyond those that
    are shown are their last ones, held; where none is shown, there are none.

    Args:
        fields: Of an observation.
        batch: Windows in it.
        memory: Points of the past that are read; 0 leaves them out.
        crowd: Points of other viewers that are read, history and horizon; 0 leaves them out.
    """
    ready: dict[str, ndarray] = {}
    if memory:
        ready["memory_deg"] = np.zeros((batch, memory, 3))
        ready["memory_known"] = np.zeros((batch, memory), dtype=bool)
        if "memory_known" in fields:
            count = min(memory, fields["memory_known"].shape[1])
            for name, values in ready.items():
                values[:, memory - count :] = fields[name][:, fields[name].shape[1] - count :]
    if crowd and "crowd_deg" in fields:
        crowd_deg = fields["crowd_deg"][:, :, :crowd]
        held = crowd_deg[:, :, -1:].repeat(crowd - crowd_deg.shape[2], axis=2)
        ready["crowd_deg"] = np.concatenate([crowd_deg, held], axis=2)
        ready["crowd_known"] = fields["crowd_known"]
    return ready


class SideFields:
    """The side information of windows to learn from.

    Args:
        clips: The recordings, of a setting with a memory or a crowd.
        front_deg: Yaw of their videos' front.
        seed: Of the viewers that are hidden, which depend on nothing else but the window; None
            if nobody is.
    """

    def __init__(self, clips: Sequence[Clip], *, front_deg: float, seed: int | None) -> None:
        self._clips, self._front_deg, self._seed = clips, front_deg, seed
        self._clip_of, self._window_of = numbered(clips)

    def __call__(self, rows: Int[ndarray, "row"]) -> dict[str, ndarray]:
        """The fields of some windows; those beyond the last are mirror images, in the same order.

        A share of the viewers is hidden, so that a model learns to do with few, or with nobody.
        """
        windows = len(self._clip_of)
        at = rows % windows
        fields = gathered(self._clips, self._clip_of[at], self._window_of[at])
        history_deg = fields.pop("viewport_deg")
        del fields["time_s"]
        if "crowd_known" in fields:
            if self._seed is not None:
                fields["crowd_known"] &= _shown(self._seed, rows, fields["crowd_known"].shape[1])
            fields = nearest(history_deg, fields, VIEWERS)
        flip = rows >= windows
        for name in fields:
            if name.endswith("_deg") and flip.any():
                fields[name][flip] = mirrored(fields[name][flip], self._front_deg)
        return fields


def _shown(seed: int, rows: Int[ndarray, "row"], viewers: int) -> Bool[ndarray, "row viewer"]:
    draws = np.stack([np.random.default_rng([seed, row]).random(viewers + 2) for row in rows])
    share = np.where(draws[:, 0] < _NOBODY, 0.0, draws[:, 1] ** _FEW)
    return draws[:, 2:] < share[:, None]
