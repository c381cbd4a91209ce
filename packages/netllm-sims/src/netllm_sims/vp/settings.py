"""Named settings: which head movement is predicted, from how much of the past, and how far."""

import logging
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from netllm_sims.data_sources import Source, generated, of_files
from netllm_sims.setting_values import check_names, data_root, unknown, whole
from netllm_sims.vp import synthetic_viewers, train_valid_test
from netllm_sims.vp.clips import Clip, cut
from netllm_sims.vp.frames import Frames, open_frames
from netllm_sims.vp.setting_values import READERS
from netllm_sims.vp.side_information import Crowd, CrowdShown
from netllm_sims.vp.trajectories import Trajectory
from netllm_sims.vp.trajectory_loading import GAPS, Gaps
from netllm_sims.vp.user_video_splits import PARTS

_log = logging.getLogger(__name__)
_DESCRIPTIONS = {
    "default": "Jin2022: 2 s of history, 4 s to predict",
    "memory": "`default`, and the viewer's own last 60 s",
    "crowd": "`default`, and how 42 earlier viewers moved in the same video, then and after",
    "crowd-memory": "`default`, and both",
    "unseen-horizon": "Jin2022: 4 s of history, 6 s to predict",
    "unseen-dataset": "Wu2017: 2 s of history, 4 s to predict",
    "unseen-both": "Wu2017: 4 s of history, 6 s to predict",
    "synthetic": "seeded users who turn to seeded points of interest; needs no data",
}
_OVERRIDES = {
    "memory": {"memory": 300},
    "crowd": {"crowd": 42},
    "crowd-memory": {"memory": 300, "crowd": 42},
    "unseen-horizon": {"history": 20, "horizon": 30},
    "unseen-both": {"history": 20, "horizon": 30},
}
_FRONTS_DEG = {"Jin2022": 90.0, "Wu2017": -90.0}
_FIXED_FIELDS = ("name", "data", "synthetic", "dataset")


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """One configuration of the task; build it with `setting(name, …)`.

    What is read or generated is kept with the object.

    Raises:
        ValueError: A number outside its range.
    """

    training_fields: ClassVar[frozenset[str]] = frozenset({"train_stride"})
    """Fields that change what is trained on, and nothing that is tested."""
    fixed_fields: ClassVar[frozenset[str]] = frozenset({"dataset"})
    """Fields that follow from others."""

    name: str
    """Name of the setting that it began as."""
    data: Path | None = None
    """Folder of the real data, if it was used."""
    synthetic: bool = False
    """Whether the seeded generator stands in for recorded head movement."""
    dataset: str
    """First part of the videos' ids: `Jin2022`, `Wu2017`, `synthetic`, or that of own data."""
    trajectories: Path | None = None
    """Own folder or zip of files `<video>/<user>.csv`; see `load_trajectories`."""
    split: bool = True
    """Whether the users of own trajectories without folders `train`, `valid`, `test` are divided
    into these parts; else every part has all of them."""
    videos: tuple[str, ...] | None = None
    """Only these videos, as `video4`."""
    users: tuple[str, ...] | None = None
    """Only these users, as `user83`."""
    history: int = 10
    """Known points of a window."""
    horizon: int = 20
    """Points to predict."""
    rate_hz: float = 5.0
    """Points per second; the published data have 5."""
    memory: int = 0
    """Points before the history that are known too, as far as the viewer's recording reaches."""
    crowd: int = 0
    """Most viewers of the past who are shown: how they moved in the same video, at the window's
    points and those to predict. They are users of the train part, never the viewer."""
    stride: int = 15
    """Points between two windows that validate or test."""
    train_stride: int = 15
    """Points between two windows that train."""
    trim_head: int = 30
    """Points at the start of a trajectory in which no future begins."""
    trim_tail: int = 60
    """Points at its end in which no future begins."""
    gaps: Gaps = "error"
    """Where more than 1 s lies between two points of own data: `error`, `split` (no window over
    it), `interpolate` or `keep`; published data are kept as they are unless this is overridden."""
    fov_deg: tuple[float, float] = (110.0, 90.0)
    """Field of view, across and from top to bottom, in degrees, for the tiles of the metrics."""
    front_deg: float = 0.0
    """Yaw of a video's front, which viewers come back to. The two published data sets were recorded
    with it at opposite sides, 90 and -90, so a predictor that learned one needs to know."""
    seed: int = 0
    """Seed of the synthetic generator."""
    frames: Path | None = None
    """Own folder of equirectangular frames: `<video>/000001.png` and so on, or `<video>.mp4`."""
    frames_hz: float | None = None
    """Frames per second of these images, `rate_hz` by default; a video file knows its own."""

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "stride", "train_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1 point, got {getattr(self, name)}.")
        for name, most in (("memory", 100_000), ("crowd", 10_000)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"`{name}` must lie in [0, {most:,}], got {getattr(self, name)}.")
        for name, least in (("trim_head", self.history), ("trim_tail", self.horizon - 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` must be at least {least} points for a history of {self.history} and "
                    f"a horizon of {self.horizon}, got {getattr(self, name)}. Trim more."
                )
        for name in ("rate_hz", "frames_hz"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a finite number > 0, got {value}.")
        if not abs(self.front_deg) <= 360:
            raise ValueError(f"`front_deg` must be a yaw in [-360, 360], got {self.front_deg}.")
        if self.gaps not in GAPS:
            raise ValueError(unknown("way with gaps", self.gaps, GAPS))
        if len(self.fov_deg) != 2 or not all(0 < angle < 180 for angle in self.fov_deg):
            raise ValueError(f"`fov_deg` must be two angles in (0, 180), got {self.fov_deg}.")
        if self.synthetic and not (self.videos is self.users is None):
            raise ValueError("`videos` and `users` choose among recorded data: leave them out.")

    def clips(self, part: str, episodes: int | None = None, seed: int = 0) -> list[Clip]:
        """Windows of the user-video pairs of `train`, `valid` or `test`, pair by pair.

        The order is fixed: that of the published lists, else of videos and users by name. Pairs
        too short for any window are absent, which is logged as a warning, once per part.

        Args:
            part: `train`, `valid` or `test`.
            episodes: Number of pairs: of `test` the first so many, else a random choice in order.
            seed: Of that choice.

        Raises:
            ValueError: Unknown part, one that the setting lacks, no trajectory long enough for a
                window, more pairs than there are, or a file that cannot be read.
        """
        if part not in PARTS:
            raise ValueError(f"`part` must be one of {', '.join(PARTS)}, got {part!r}.")
        clips = self._clips(part)
        if episodes is None:
            return list(clips)
        if not 1 <= episodes <= len(clips):
            raise ValueError(
                f"`episodes` must be at least 1 and at most {len(clips)}, the pairs of the {part} "
                f"part, got {episodes}."
            )
        if part == "test":
            return clips[:episodes]
        rng = np.random.default_rng([seed, PARTS.index(part)])
        chosen = np.sort(rng.permutation(len(clips))[:episodes])
        return [clips[i] for i in chosen]

    def frames_of(self, video: str) -> Frames | None:
        """Equirectangular frames of a video, or None where the setting has none.

        Args:
            video: The id that its clips carry, as `Jin2022/video4`.

        Raises:
            ValueError: Unknown video (with the nearest names), or frames that end more than a
                second before one of the video's trajectories.
            FileNotFoundError: There are no frames of this video.
        """
        if not self.synthetic and self.frames is None:
            return None
        video = str(video)  # messages show the names of arrays as NumPy's
        longest = self._longest
        if video not in longest:
            raise ValueError(unknown("video", video, list(longest)))
        if self.frames is None:
            return synthetic_viewers.frames_of(self.seed, video, rate_hz=self.rate_hz)
        frames = open_frames(self.frames, video, rate_hz=self.frames_hz or self.rate_hz)
        end_s, trajectory = longest[video]
        if frames.seconds + 1 < end_s:
            raise ValueError(
                f"{frames.source}: the video must last as long as its trajectories, got "
                f"{frames.count} frames at {frames.rate_hz:g} Hz, {frames.seconds:g} s, but "
                f"{trajectory.source or trajectory.id} ends at {end_s:g} s. Correct `frames_hz`, "
                "add the missing frames, or let the times begin with the video, at 0."
            )
        return frames

    @property
    def sources(self) -> tuple[Source, ...]:
        """The head movement and the frames that it is made of, with their digests."""
        found = [self._movement()]
        if self.frames is not None:
            found.append(of_files("frames", self.frames, origin="own"))
        return tuple(found)

    def _movement(self) -> Source:
        if self.synthetic:
            return generated("head movement")
        root = self.trajectories or train_valid_test.published_root(
            self.data or Path(), self.dataset
        )
        assert root is not None  # `setting` has checked that it is there
        if self.trajectories is not None:
            return of_files("head movement", root, origin="own")
        return of_files("head movement", root, origin="published", name=self.dataset)

    @property
    def divided(self) -> str | None:
        """How the users of own data were divided, in a sentence; None where they were not."""
        if self.trajectories is None or not self.split:
            return None
        users = train_valid_test.users_by_part(self.trajectories)
        if users is None:
            return None
        if not users["train"]:
            return (
                f"{self.dataset} has fewer than three users, too few to divide: all of them test."
            )
        return (
            f"{self.dataset} has no folders train, valid and test, so its users were divided: "
            f"{len(users['train'])} train, {len(users['valid'])} validate, {len(users['test'])} "
            "test. With split=false every part has all of them."
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that the setting has."""
        return ("test",) if self.name.startswith("unseen-") else PARTS

    def _clips(self, part: str) -> list[Clip]:
        if part not in self.parts:
            raise ValueError(
                f"Setting `{self.name}` has only a `test` part, got {part!r}. Train on `default`."
            )
        if part not in self._cut:
            trajectories = self._trajectories(part)
            if self.crowd:
                self._meet({trajectory.video for trajectory in trajectories}, part)
            every = [self._windows(trajectory, part) for trajectory in trajectories]
            self._cut[part] = [clip for clip in every if len(clip)]
            if not self._cut[part]:
                raise ValueError(self._too_short(trajectories, part))
            if absent := [clip.id for clip in every if not len(clip)]:
                _log.warning(
                    "%d of the %d user-video pairs of the %s part of %s are too short for any "
                    "window and left out: %s.",
                    len(absent),
                    len(every),
                    part,
                    self.dataset,
                    ", ".join(absent[:3]) + (", …" if len(absent) > 3 else ""),
                )
        return self._cut[part]

    def _too_short(self, trajectories: list[Trajectory], part: str) -> str:
        longest = max(trajectories, key=lambda trajectory: len(trajectory.times_s))
        gaps = f", {len(longest.breaks)} gaps between them" if longest.breaks else ""
        return (
            f"{longest.source or longest.id}: the longest trajectory of the {part} part must have "
            f"more than `trim_head` + `trim_tail` = {self.trim_head + self.trim_tail} points, and "
            f"a window of {self.history + self.horizon} without a gap, got {len(longest.times_s)} "
            f"points at {self.rate_hz:g} Hz{gaps}. Lower `trim_tail` (to {self.horizon - 1} at "
            f"least) and `trim_head` (to {self.history}), then `horizon` and `history`."
        )

    def _windows(self, trajectory: Trajectory, part: str) -> Clip:
        return cut(
            trajectory,
            history=self.history,
            horizon=self.horizon,
            stride=self.train_stride if part == "train" else self.stride,
            trim_head=self.trim_head,
            trim_tail=self.trim_tail,
            memory=self.memory,
            crowd=CrowdShown(self.crowd, self._crowds.get(trajectory.video))
            if self.crowd
            else None,
        )

    def _trajectories(self, part: str) -> list[Trajectory]:
        if part not in self._read:
            self._read[part] = self._source(part)
        return self._read[part]

    def _source(self, part: str) -> list[Trajectory]:
        if self.synthetic:
            return synthetic_viewers.trajectories(self.seed, part, rate_hz=self.rate_hz)
        if self.trajectories is not None:
            return train_valid_test.own(self._reading, part)
        return train_valid_test.published(self._reading, self.dataset, part)

    @property
    def _reading(self) -> train_valid_test.Reading:
        root = self.trajectories or train_valid_test.published_root(
            self.data or Path(), self.dataset
        )
        if root is None:
            raise FileNotFoundError(f"{self.data}: must hold vp/{self.dataset}.zip, got none.")
        return train_valid_test.Reading(
            root=root,
            rate_hz=self.rate_hz,
            gaps=self.gaps,
            videos=self.videos,
            users=self.users,
            split=self.split,
            front_deg=self.front_deg,
        )

    def _meet(self, videos: set[str], part: str) -> None:
        """Read how earlier viewers moved in the videos of a part."""
        new = videos - set(self._crowds)
        if self.synthetic:
            viewers = synthetic_viewers.trajectories(
                self.seed, part, rate_hz=self.rate_hz, viewers="train"
            )
        else:
            dataset = self.dataset if self.trajectories is None else None
            names = {video.rpartition("/")[2] for video in new}
            viewers = train_valid_test.earlier_viewers(self._reading, dataset, names)
        for video in new:
            mine = [one for one in viewers if one.video == video]
            self._crowds[video] = Crowd.of(mine, rate_hz=self.rate_hz) if mine else None

    @cached_property
    def _read(self) -> dict[str, list[Trajectory]]:
        return {}

    @cached_property
    def _cut(self) -> dict[str, list[Clip]]:
        return {}

    @cached_property
    def _crowds(self) -> dict[str, Crowd | None]:
        return {}

    @cached_property
    def _longest(self) -> dict[str, tuple[float, Trajectory]]:
        """For each video the latest end of its trajectories, and which one it is."""
        longest: dict[str, tuple[float, Trajectory]] = {}
        for part in self.parts:
            with suppress(train_valid_test.NoneOfPart):  # own data need not have every part
                for trajectory in self._trajectories(part):
                    end_s = float(trajectory.times_s[-1])
                    if end_s > longest.get(trajectory.video, (-1.0, None))[0]:
                        longest[trajectory.video] = (end_s, trajectory)
        return longest


def settings() -> dict[str, str]:
    """Names of the settings, each with one line on what it is."""
    return dict(_DESCRIPTIONS)


def setting(name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
    """The named setting, with any of its fields overridden; values may be text.

    Args:
        name: A name of `settings()`.
        data: Folder of the real data; by default the environment variable NETLLM_DATA. Without
            either, `default` is served by the seeded generator and says so in `synthetic`.
        overrides: Fields to change.

    Raises:
        ValueError: Unknown setting or field (with the nearest names), or a value that does not fit.
        FileNotFoundError: The real data is needed but not there.
    """
    known = [f.name for f in fields(Setting) if f.name not in _FIXED_FIELDS]
    check_names(name, overrides, names=list(_DESCRIPTIONS), fields=known)
    changes = {
        key: READERS.get(key, whole)(key, value)
        for key, value in overrides.items()
        if value is not None
    }
    changes = {**_OVERRIDES.get(name, {}), **changes}
    if "trajectories" in changes:
        return Setting(name=name, dataset=changes["trajectories"].stem, **changes)
    dataset = "Wu2017" if name in ("unseen-dataset", "unseen-both") else "Jin2022"
    root = data_root(
        name,
        data,
        holds=lambda folder: train_valid_test.published_root(folder, dataset) is not None,
        needed=f"vp/{dataset}.zip or a folder vp/{dataset}",
    )
    if root is None:
        return Setting(name=name, synthetic=True, dataset="synthetic", **changes)
    own: dict[str, Any] = {"gaps": "keep", "front_deg": _FRONTS_DEG[dataset]}
    return Setting(name=name, data=root, dataset=dataset, **own | changes)
