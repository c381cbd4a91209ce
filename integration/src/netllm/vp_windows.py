"""What viewport prediction learns from: windows, varied anew at every step, and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from netllm_adapt import Examples

if TYPE_CHECKING:
    from netllm_adapt import Recipe
    from netllm_adapt.predictor import Batch
    from netllm_sims.vp import Clip, Setting

MIRROR = torch.tensor([-1.0, 1.0, -1.0])
"""Left and right exchanged: roll and yaw change their signs."""

TURN_DEG = 20.0
"""Standard deviation of a random turn of the whole window: where it happens matters little."""


class Windows(Examples):
    """Recorded windows; half of those drawn are mirrored, and all are turned about a little.

    Windows with frames are left as they are, since a frame would have to turn with them.

    Args:
        clips: user-video pairs.
        sight: the features of frames; None without.

    Raises:
        ValueError: if there are none.
    """

    def __init__(self, clips: Sequence[Clip], sight: Sight | None = None) -> None:
        lengths = [len(clip.time_s) for clip in clips]
        super().__init__(
            {"viewport_deg": np.concatenate([clip.history_deg for clip in clips])},
            np.concatenate([clip.future_deg for clip in clips]),
        )
        self._sight = sight
        self._videos = np.repeat([clip.video for clip in clips], lengths)
        self._times_s = np.concatenate([clip.time_s for clip in clips])
        if sight is not None:
            sight.prepare(self._videos, self._times_s)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Some windows as tensors; the trainer seeds the variation at every step."""
        batch = super().batch(rows)
        if self._sight is not None:
            chosen = np.asarray(rows)
            grids = self._sight(self._videos[chosen], self._times_s[chosen])
            batch.observations = {**batch.observations, "image": torch.from_numpy(grids)}
            return batch
        mirrored = torch.where(torch.rand(len(rows), 1, 1) < 0.5, MIRROR, 1.0)
        turn = torch.randn(len(rows), 1) * TURN_DEG
        history, future = batch.observations["viewport_deg"] * mirrored, batch.labels * mirrored
        for viewports in (history, future):
            viewports[..., 2] += turn
        batch.observations, batch.labels = {"viewport_deg": history}, future
        return batch


class Sight:
    """Features of the frames that viewers of a setting see, computed once per frame.

    Args:
        setting: has frames.
        settings: of `netllm_encoders.image.FrameFeatures`, as a checkpoint keeps them.

    Raises:
        ValueError: if the setting has no frames.
    """

    def __init__(self, setting: Setting, settings: Mapping[str, Any]) -> None:
        from netllm_encoders.image import FrameFeatures

        if setting.frames is None and not setting.synthetic:
            raise ValueError(
                f"The setting {setting.name!r} has no frames, which a multimodal model must see. "
                "Give a folder of them with --set frames=DIR, or adapt without --multimodal."
            )
        self._setting = setting
        self._features = FrameFeatures(**settings, cache=cache_folder())
        self._known: dict[tuple[str, int], np.ndarray] = {}

    @property
    def image(self) -> dict[str, int]:
        """Shape of a frame's grid of features: what the encoder declares."""
        return self._features.image

    def prepare(self, videos: np.ndarray, times_s: np.ndarray) -> list[tuple[str, int]]:
        """Compute the features of frames that are not known yet; the keys of all, in order."""
        frames = {video: self._setting.frames_of(video) for video in dict.fromkeys(videos)}
        keys = []
        for video, time_s in zip(videos, times_s, strict=True):
            shown = frames[video]
            assert shown is not None
            keys.append((str(video), shown.index(float(time_s))))
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        pictures = (frames[video].draw(index) for video, index in new)  # type: ignore[union-attr]
        if new:
            self._known |= dict(zip(new, self._features(pictures), strict=True))
        return keys

    def __call__(self, videos: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """The grids (window, row, column, channel) of the frames on display, never later ones."""
        return np.stack([self._known[key] for key in self.prepare(videos, times_s)])


def cache_folder() -> Path:
    """Where features of frames are kept: beside the backbones."""
    from netllm_adapt.backbone import cache_folder

    return Path(cache_folder()) / "frames"


def frame_settings(recipe: Recipe) -> dict[str, Any] | None:
    """The settings of the vision model that a recipe asks for; None without images."""
    if not recipe.multimodal:
        return None
    return {
        "model": recipe.image_model,
        "weights": recipe.image_weights or None,
        "seed": recipe.seed,
        "image_size": (64, 128),
        "grid": (4, 8),
    }
