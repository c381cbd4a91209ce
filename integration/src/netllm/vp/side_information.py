"""What a model sees of a setting's side information: its past, and the viewers most alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.vp import Clip
from netllm_sims.vp.clips import gathered, numbered
from netllm_sims.vp.geometry import mirrored, turned
from netllm_sims.vp.side_information import apart_rad

if TYPE_CHECKING:
    from netllm_adapt import Predictor

VIEWERS = 16
"""Other viewers that become tokens; more of them add little, see `docs/tasks/vp.md`."""
ALIKE = 5
"""Points of the history by which viewers are compared."""
_NOBODY, _FEW = 0.1, 0.5
"""A tenth of the training windows shows nobody, the others a share that is often high."""

Fields = Mapping[str, np.ndarray]


def nearest(
    history_deg: Float[np.ndarray, "batch history 3"], fields: Fields, viewers: int
) -> dict[str, np.ndarray]:
    """The fields with the crowd cut to the viewers who looked the most alike, the nearest first.

    The mean angle between directions over the last second decides; who is not known comes last.

    Args:
        history_deg: the viewer's own points.
        fields: `crowd_deg` (batch, viewer, point, 3) and `crowd_known` (batch, viewer); others
            stay as they are. Without them nobody is known.
        viewers: how many to keep; fewer are filled up with viewers that are not known.
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


class SideFields:
    """The side information of windows to learn from.

    Args:
        clips: the recordings, of a setting with a memory or a crowd.
        front_deg: yaw of their videos' front.
        seed: of the viewers that are hidden, which depend on nothing else but the window.
    """

    def __init__(self, clips: Sequence[Clip], *, front_deg: float, seed: int) -> None:
        self._clips, self._front_deg, self._seed = clips, front_deg, seed
        self._clip_of, self._window_of = numbered(clips)

    def __call__(self, rows: Int[np.ndarray, "row"]) -> dict[str, np.ndarray]:
        """The fields of some windows; those beyond the last are mirror images, in the same order.

        A share of the viewers is hidden, so that a model learns to do with few, or with nobody.
        """
        windows = len(self._clip_of)
        at = rows % windows
        fields = gathered(self._clips, self._clip_of[at], self._window_of[at])
        history_deg = fields.pop("viewport_deg")
        del fields["time_s"]
        if "crowd_known" in fields:
            fields["crowd_known"] = fields["crowd_known"] & self._shown(rows, fields)
            fields = nearest(history_deg, fields, VIEWERS)
        flip = rows >= windows
        for name in fields:
            if name.endswith("_deg") and flip.any():
                fields[name][flip] = mirrored(fields[name][flip], self._front_deg)
        return fields

    def _shown(self, rows: Int[np.ndarray, "row"], fields: Fields) -> np.ndarray:
        viewers = fields["crowd_known"].shape[1]
        draws = np.stack(
            [np.random.default_rng([self._seed, row]).random(viewers + 2) for row in rows]
        )
        share = np.where(draws[:, 0] < _NOBODY, 0.0, draws[:, 1] ** _FEW)
        return draws[:, 2:] < share[:, None]


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
        names = ("memory",) * bool(self.memory) + ("crowd",) * bool(self.viewers)
        fields = {
            name: turned(values, turn_deg) if name.endswith("_deg") else values
            for name, values in observation.items()
            if name.partition("_")[0] in names
        }
        return nearest(history_deg, fields, self.viewers) if self.viewers else fields

    def fitted(self, fields: Fields, seen_deg: np.ndarray) -> dict[str, np.ndarray]:
        """The fields in the shape that the model reads after points were predicted.

        Points of the past that are missing are not known; where the setting shows less of other
        viewers' future than the model reads, their last point is held.
        """
        ready: dict[str, np.ndarray] = {}
        if self.viewers:
            points = seen_deg.shape[1] + self.horizon
            crowd_deg = fields["crowd_deg"][:, :, :points]
            held = ((0, 0), (0, 0), (0, points - crowd_deg.shape[2]), (0, 0))
            ready["crowd_deg"] = np.pad(crowd_deg, held, mode="edge")
            ready["crowd_known"] = fields["crowd_known"]
        if self.memory:
            shape = (len(seen_deg), self.memory)
            ready["memory_deg"] = np.zeros((*shape, 3))
            ready["memory_known"] = np.zeros(shape, dtype=bool)
            if "memory_deg" in fields:
                count = min(self.memory, fields["memory_known"].shape[1])
                for name in ("memory_deg", "memory_known"):
                    ready[name][:, -count:] = fields[name][:, -count:]
        return ready
