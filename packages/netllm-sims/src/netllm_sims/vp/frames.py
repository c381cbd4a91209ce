"""Equirectangular frames of the videos: drawn, read from images, or decoded from a video file."""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from netllm_sims.files import reading

Frame = UInt8[ndarray, "height width 3"]
_IMAGES = (".png", ".jpg", ".jpeg")
_VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi")


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one video, got one by one.

    They are equirectangular: yaw -180° to 180° from left to right, elevation 90° to -90° from top
    to bottom (`geometry.to_yaw_pitch` of a viewport says where in it the head looks).
    """

    rate_hz: float
    """Frames per second."""
    count: int
    """How many there are."""
    draw: Callable[[int], ndarray] = field(repr=False)
    """Gives the frame of an index, from 0."""
    source: str = ""
    """Folder, file or generator, for messages."""

    @property
    def seconds(self) -> float:
        """How long they last."""
        return self.count / self.rate_hz

    def index(self, time_s: float) -> int:
        """Index of the frame on display at a time; within a second after the end, the last one.

        Raises:
            ValueError: A time before the start or more than a second after the end.
        """
        if not 0 <= time_s <= self.seconds + 1:
            raise ValueError(
                f"{self.source}: `time_s` must lie between 0 and {self.seconds:g} s, the end of "
                f"its {self.count} frames, got {time_s:g}."
            )
        return min(floor(time_s * self.rate_hz + 1e-6), self.count - 1)

    def turned(self, angle_deg: float) -> "Frames":
        """The frames after `geometry.turned`: what was at yaw 0 is at `angle_deg`, to a pixel."""

        def draw(index: int) -> ndarray:
            frame = self.draw(index)
            return np.roll(frame, round(angle_deg / 360 * frame.shape[1]), axis=1)

        return self if angle_deg % 360 == 0 else replace(self, draw=draw)

    def at(self, time_s: float) -> Frame:
        """RGB frame on display at a time, never one that comes later.

        Raises:
            ValueError: A time outside the video, or a frame that cannot be decoded.
        """
        return self.draw(self.index(time_s))


def open_frames(root: Path, video: str, *, rate_hz: float) -> Frames:
    """Frames below `root` of a video: of a folder of numbered images, or a video file.

    The name is the video's id or its last part: `<root>/video4/000001.png` or `<root>/video4.mp4`.

    Args:
        root: Own folder of frames.
        video: The video's id.
        rate_hz: Frames per second of images.

    Raises:
        FileNotFoundError: There are no frames of this video.
        ValueError: A frame is missing before or between others.
        ImportError: A library is needed.
    """
    for name in dict.fromkeys((video, video.split("/")[-1])):
        if (root / name).is_dir():
            return _images(root / name, rate_hz)
        for suffix in _VIDEOS:
            if (file := root / f"{name}{suffix}").is_file():
                return _video(file)
    raise FileNotFoundError(
        f"{root / video.split('/')[-1]}: there are no frames of video {video!r}: neither a folder "
        f"of images nor a file ending with one of {', '.join(_VIDEOS)}."
    )


def _images(folder: Path, rate_hz: float) -> Frames:
    files = [file for file in folder.iterdir() if file.suffix.lower() in _IMAGES]
    for file in files:
        if not file.stem.isdecimal():
            raise ValueError(f"{file}: a frame must be named by its number, as 000001.png.")
    files.sort(key=lambda file: int(file.stem))
    if not files:
        raise ValueError(f"{folder}: must hold frames like 000001.png or .jpg, got none.")
    if int(files[0].stem) > 1:
        raise ValueError(
            f"{files[0]}: frames must be numbered from 0 or 1, but this is the first. Add those "
            "before it: a frame's number is its time."
        )
    for before, after in pairwise(files):
        if int(after.stem) != int(before.stem) + 1:
            raise ValueError(
                f"{after}: frames must be numbered one after another, got {before.name} before it."
            )
    return Frames(rate_hz, len(files), lambda index: _decode(files[index]), str(folder))


def _decode(file: Path) -> Frame:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError(_missing("frames", "pillow")) from None
    bomb = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        # a pipe or device is refused before anything waits for it, and a size before its memory
        with reading.regular(file) as stream, Image.open(stream) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"at most {_MOST_PIXELS:,} pixels are read, got {image.size}")
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, MemoryError, *bomb) as error:
        reason = str(error) or "it is larger than the memory"
        raise ValueError(
            f"{file}: the frame cannot be decoded: {reason}. Export it again as PNG or JPEG."
        ) from None


class _Opened:
    """Stands for a video that somebody holds the frames of."""


_readers: OrderedDict[int, Any] = OrderedDict()
"""The decoders of the videos that were read last: each is a process with some frames in memory."""
_MOST_READERS = 2
_MOST_PIXELS = 1 << 27
"""Of one frame: 16,384 x 8,192."""


def _reader(video: int, file: Path) -> Any:
    """The decoder of a video; that of the one least lately read is closed for it."""
    import imageio.v2 as imageio  # type: ignore[import-not-found, import-untyped]

    if video not in _readers:
        _readers[video] = imageio.get_reader(file, format="FFMPEG")
    _readers.move_to_end(video)
    while len(_readers) > _MOST_READERS:
        _readers.popitem(last=False)[1].close()
    return _readers[video]


def _close(video: int) -> None:
    if video in _readers:
        _readers.pop(video).close()


def _video(file: Path) -> Frames:
    opened = _Opened()
    weakref.finalize(opened, _close, id(opened))
    try:
        reader = _reader(id(opened), file)
        rate_hz, count = float(reader.get_meta_data()["fps"]), int(reader.count_frames())
    except ImportError:
        raise ImportError(_missing("video files", "imageio and imageio-ffmpeg")) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{file}: the video cannot be opened: {_last_line(error)}. Is the file whole?"
        ) from None

    def draw(index: int) -> Frame:
        try:
            return np.asarray(_reader(id(opened), file).get_data(index))
        except (IndexError, OSError, RuntimeError) as error:
            raise ValueError(
                f"{file}: frame {index} cannot be decoded: {_last_line(error)}. Encode the video "
                "again."
            ) from None

    return Frames(rate_hz, count, draw, str(file))


def _last_line(error: Exception) -> str:
    """Of an error that carries the whole log of a decoder: what it says in the end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().rstrip(".")


def _missing(what: str, library: str) -> str:
    return (
        f"Reading {what} needs {library}. In a clone: pip install './packages/netllm-sims[video]'"
    )
