"""What viewport prediction learns from: windows, and the frames on display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from netllm_adapt import Examples
from netllm_adapt.observations import as_tensor
from netllm_sims.vp.geometry import mirrored
from netllm_sims.vp.side_fields import SideFields

from netllm.task import state_of
from netllm.vp.state import HELD, State

if TYPE_CHECKING:
    from netllm_adapt import Predictor
    from netllm_adapt.batches import ExampleBatch
    from netllm_sims.vp import Clip, Frames, Setting


class Windows(Examples):
    """Recorded windows, with the features of the frames on display if there is a `sight`.

    Where the setting has a memory or a crowd, the fields of `side_information` are there too.

    Without frames every window is there twice, as recorded and in a mirror along the front.

    Args:
        clips: the recordings.
        front_deg: yaw of their videos' front.
        rate_hz: points per second.
        sight: makes the features of frames; None for none.
        seed: of the viewers of a crowd that are hidden in training.

    Raises:
        ValueError: if there are none.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        front_deg: float = 0.0,
        rate_hz: float = 5.0,
        sight: Sight | None = None,
        seed: int = 0,
    ) -> None:
        self.front_deg = front_deg
        self.rate_hz = rate_hz
        lengths = [len(clip.time_s) for clip in clips]
        history, future = (
            np.concatenate([getattr(clip, name) for clip in clips])
            for name in ("history_deg", "future_deg")
        )
        if sight is None:
            history, future = (
                np.concatenate([angles, mirrored(angles, front_deg)])
                for angles in (history, future)
            )
        super().__init__({"viewport_deg": history}, future)
        self._sight = sight
        self._side = None
        if clips[0].side is not None:
            self._side = SideFields(clips, front_deg=front_deg, seed=seed)
        self._videos = np.repeat([clip.video for clip in clips], lengths)
        self._times_s = np.concatenate([clip.time_s for clip in clips])
        if sight is not None:
            sight.prepare(self._videos, self._times_s)

    def batch(self, rows: Sequence[int]) -> ExampleBatch:
        """Some windows as tensors."""
        batch = super().batch(rows)
        chosen, more = np.asarray(rows), {}
        if self._side is not None:
            more = {name: as_tensor(values) for name, values in self._side(chosen).items()}
        if self._sight is not None:
            grids = self._sight(self._videos[chosen], self._times_s[chosen])
            more["image"] = torch.from_numpy(grids)
        return replace(batch, observations={**batch.observations, **more})


class Sight:
    """Features of the frames that viewers of a setting see, computed once per frame.

    Args:
        setting: has frames.
        settings: of `netllm_encoders.image.FrameFeatures`, as a checkpoint keeps them.
        turn_deg: by which the world is turned before it is looked at.

    Raises:
        ValueError: if the setting has no frames.
    """

    def __init__(
        self, setting: Setting, settings: Mapping[str, Any], *, turn_deg: float = 0.0
    ) -> None:
        from netllm_adapt.backbone import cache_folder
        from netllm_encoders.image import FrameFeatures

        if setting.frames is None and not setting.synthetic:
            raise ValueError(
                f"The setting {setting.name!r} has no frames, which a multimodal model must see. "
                "Give a folder of them with --set frames=DIR, or adapt without --multimodal."
            )
        self._setting = setting
        self._turn_deg = turn_deg
        self._frames: dict[str, Frames] = {}
        self._features = FrameFeatures(**settings, cache=cache_folder() / "frames")
        self._known: dict[tuple[str, int], np.ndarray] = {}

    @property
    def image(self) -> dict[str, int]:
        """Shape of a frame's grid of features: what the encoder declares."""
        return self._features.image

    def prepare(self, videos: np.ndarray, times_s: np.ndarray) -> list[tuple[str, int]]:
        """Compute the features of frames that are not known yet; the keys of all, in order."""
        keys = [
            (str(video), self._frames_of(str(video)).index(float(time_s)))
            for video, time_s in zip(videos, times_s, strict=True)
        ]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        pictures = (self._frames_of(video).draw(index) for video, index in new)
        if new:
            self._known |= dict(zip(new, self._features(pictures), strict=True))
        return keys

    def _frames_of(self, video: str) -> Frames:
        """Opened once: to count a video file's frames takes a second."""
        if video not in self._frames:
            frames = self._setting.frames_of(video)
            assert frames is not None
            self._frames[video] = frames.turned(self._turn_deg)
        return self._frames[video]

    def __call__(self, videos: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """The grids (window, row, column, channel) of the frames on display, never later ones."""
        return np.stack([self._known[key] for key in self.prepare(videos, times_s)])


def with_frames(model: Predictor, settings: Mapping[str, Any]) -> Predictor:
    """The model with the settings of its vision model, whose own weights go into the checkpoint."""
    weights = settings["weights"]
    if weights in (None, "random"):
        model.state["frames"] = dict(settings)
        return model
    model.state["frames"] = {**settings, "weights": HELD}
    model.attached[HELD] = Path(weights).resolve()
    return model


def frames_of(model: Predictor) -> dict[str, Any] | None:
    """The settings of a model's vision model; None if it sees no images.

    Raises:
        ValueError: if they are not what they must be, or name weights that the checkpoint lacks.
    """
    frames = state_of(model, State).frames
    if frames is None:
        return None
    if frames.weights == HELD and HELD not in model.attached:
        raise ValueError(
            f"The model's `state` names {HELD}, but the checkpoint does not list it among its "
            "files (`attached`). Take config.json as it was saved."
        )
    place = model.attached[HELD] if frames.weights == HELD else frames.weights
    return {**msgspec.structs.asdict(frames), "weights": place}
