"""The windows of a part of a setting, as tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from netllm_sims.vp import Setting, geometry
from netllm_sims.vp.side_fields import SideFields
from torch import Tensor

from netllm_baselines.vp.saliency import Maps


def side_tensors(fields: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Side information, ready for a network."""
    return {
        name: torch.from_numpy(values.astype(bool if name.endswith("_known") else np.float32))
        for name, values in fields.items()
    }


@dataclass(frozen=True, kw_only=True)
class Windows:
    """All windows of a part; each saliency map is kept once and named by its number."""

    history_deg: Float[Tensor, "window history 3"]
    future_deg: Float[Tensor, "window horizon 3"]
    mirror_deg: Float[Tensor, "window point 3"] | None = None
    """History and future of the viewer seen in a mirror along the video's front, if asked for."""
    maps: Float[Tensor, "map rows columns"] | None = None
    shown: Int[Tensor, "window point"] | None = None
    """Numbers of the maps at the points of history and future."""
    side: SideFields | None = None
    """What is known beside them, if asked for."""

    @classmethod
    def of(
        cls,
        setting: Setting,
        part: str,
        *,
        maps: Maps | None = None,
        mirror: bool = False,
        side: bool = False,
        hide: int | None = None,
    ) -> "Windows":
        """The windows of all clips of `part`.

        Args:
            setting: Where they come from.
            part: `train`, `valid` or `test`.
            maps: Saliency to show with them.
            mirror: Keep their mirror images too; `at` needs them for `mirrored`.
            side: Show the setting's memory and crowd with them.
            hide: Seed by which some of the crowd are hidden; None if nobody is.
        """
        clips = setting.clips(part)
        history, future = (
            np.concatenate([getattr(clip, name) for clip in clips])
            for name in ("history_deg", "future_deg")
        )
        angles = {"history_deg": history, "future_deg": future}
        if mirror:
            # the middle of maps and frames lies at yaw 0
            front_deg = setting.front_deg if maps is None else 0.0
            both = np.concatenate([history, future], axis=1)
            angles["mirror_deg"] = geometry.mirrored(both, front_deg)
        tensors: dict[str, Any] = {
            name: torch.from_numpy(array).float() for name, array in angles.items()
        }
        if maps is None:
            own = SideFields(clips, front_deg=setting.front_deg, seed=hide) if side else None
            return cls(side=own, **tensors)
        videos = np.repeat([clip.video for clip in clips], [len(clip.time_s) for clip in clips])
        shown = maps.numbers(videos, np.concatenate([clip.time_s for clip in clips]))
        return cls(
            **tensors,
            maps=torch.from_numpy(maps.known()),
            shown=torch.from_numpy(shown),
        )

    def __len__(self) -> int:
        return len(self.history_deg)

    def at(
        self, rows: Int[Tensor, " row"], *, mirrored: Bool[Tensor, " row"] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | dict[str, Tensor] | None]:
        """Histories, futures and what is seen beside (saliency, or side information).

        Args:
            rows: Some windows.
            mirrored: Which of them are seen in the mirror.

        Raises:
            ValueError: `mirrored` is given, but the mirror images were not asked for.
        """
        history, future = self.history_deg[rows], self.future_deg[rows]
        seen: Tensor | dict[str, Tensor] | None = None
        if self.side is not None:
            images = rows if mirrored is None else rows + len(self) * mirrored
            seen = side_tensors(self.side(images.numpy()))
        if self.maps is not None and self.shown is not None:
            seen = self.maps[self.shown[rows]]
        if mirrored is None:
            return history, future, seen
        if self.mirror_deg is None:
            raise ValueError("These windows have no mirror images: make them with `mirror=True`.")
        flip = mirrored[:, None, None]
        sides = self.mirror_deg[rows].split([history.shape[1], future.shape[1]], dim=1)
        history, future = torch.where(flip, sides[0], history), torch.where(flip, sides[1], future)
        if isinstance(seen, Tensor):
            seen = torch.where(flip[..., None], seen.flip(-1), seen)
        return history, future, seen
