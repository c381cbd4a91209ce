"""The windows of a part of a setting, as tensors."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from netllm_sims.vp import Setting
from torch import Tensor

from netllm_baselines.vp.saliency import Maps

MIRROR = (-1.0, 1.0, -1.0)
"""Signs of roll, pitch and yaw of a head seen in a mirror."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """All windows of a part; each saliency map is kept once and named by its number."""

    history_deg: Float[Tensor, "window history 3"]
    future_deg: Float[Tensor, "window horizon 3"]
    maps: Float[Tensor, "map rows columns"] | None = None
    shown: Int[Tensor, "window point"] | None = None
    """Numbers of the maps at the points of history and future."""

    @classmethod
    def of(cls, setting: Setting, part: str, *, maps: Maps | None = None) -> "Windows":
        """The windows of all clips of `part`, with saliency if there are `maps`."""
        clips = setting.clips(part)
        history, future = (
            torch.from_numpy(np.concatenate([getattr(clip, name) for clip in clips])).float()
            for name in ("history_deg", "future_deg")
        )
        if maps is None:
            return cls(history_deg=history, future_deg=future)
        videos = np.repeat([clip.video for clip in clips], [len(clip.time_s) for clip in clips])
        shown = maps.numbers(videos, np.concatenate([clip.time_s for clip in clips]))
        return cls(
            history_deg=history,
            future_deg=future,
            maps=torch.from_numpy(maps.known()),
            shown=torch.from_numpy(shown),
        )

    def __len__(self) -> int:
        return len(self.history_deg)

    def at(
        self, rows: Int[Tensor, " row"], *, mirrored: Bool[Tensor, " row"] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Histories, futures and saliency of some windows, some of them mirrored."""
        history, future = self.history_deg[rows], self.future_deg[rows]
        seen = None
        if self.maps is not None and self.shown is not None:
            seen = self.maps[self.shown[rows]]
        if mirrored is None:
            return history, future, seen
        sign = torch.where(mirrored[:, None, None], torch.tensor(MIRROR), torch.ones(3))
        if seen is not None:
            seen = torch.where(mirrored[:, None, None, None], seen.flip(-1), seen)
        return history * sign, future * sign, seen
