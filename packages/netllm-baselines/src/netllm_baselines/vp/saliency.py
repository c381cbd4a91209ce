"""Saliency maps of a setting's frames, in NumPy."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from numpy import ndarray

if TYPE_CHECKING:
    from netllm_sims.vp import Frames, Setting

ROWS, COLUMNS = 16, 32
"""Of an equirectangular map: pitch 90 to -90 from top to bottom, yaw -180 to 180 from the left."""


def saliency(frame: UInt8[ndarray, "height width 3"]) -> Float[ndarray, "16 32"]:
    """How much each part of an equirectangular frame stands out: mean 0, standard deviation 1.

    The distance of each cell's mean colour from the median colour of the frame, plus the spectral
    residual of its luminance (what remains of the log spectrum without its local mean), both
    scaled to a standard deviation of 1 before they are added.

    Source: contrast to the global colour after Achanta et al., CVPR 2009; spectral residual after
    Hou & Zhang, CVPR 2007, on the small map rather than on a 64-pixel image.
    """
    cells = _shrunk(frame)
    contrast = np.linalg.norm(cells - np.median(cells, axis=(0, 1)), axis=2)
    return _standard(_standard(contrast) + _standard(_residual(cells.mean(axis=2))))


def _shrunk(frame: UInt8[ndarray, "height width 3"]) -> Float[ndarray, "16 32 3"]:
    height, width = frame.shape[:2]
    if height < ROWS or width < COLUMNS:
        raise ValueError(
            f"a frame must have at least {ROWS} x {COLUMNS} pixels, got {height} x {width}."
        )
    sums = frame.astype(np.float64)
    for axis, cells in ((0, ROWS), (1, COLUMNS)):
        edges = np.arange(cells) * frame.shape[axis] // cells
        counts = np.diff(edges, append=frame.shape[axis])
        shape = [1, 1, 1]
        shape[axis] = cells
        sums = np.add.reduceat(sums, edges, axis=axis) / counts.reshape(shape)
    return sums


def _residual(luminance: Float[ndarray, "16 32"]) -> Float[ndarray, "16 32"]:
    if luminance.std() < 1e-6:
        return np.zeros_like(luminance)  # an even frame has no spectrum to speak of
    spectrum = np.fft.fft2(luminance)
    log = np.log(np.abs(spectrum) + 1e-9)
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    local = sum(np.roll(log, shift, axis=(0, 1)) for shift in shifts) / 9
    back = np.fft.ifft2(np.exp(log - local + 1j * np.angle(spectrum)))
    return np.square(np.abs(back))


def _standard(x: Float[ndarray, "16 32"]) -> Float[ndarray, "16 32"]:
    centred = x - x.mean()
    return centred / max(float(centred.std()), 1e-6)


class Maps:
    """Saliency at the points of windows, computed once per frame.

    Args:
        setting: Gives the frames and the rate of the points.
        before: Points of history, the last one included.
        after: Points of the horizon.
        turn_deg: By which the world is turned before it is looked at.
    """

    def __init__(
        self, setting: "Setting", *, before: int, after: int, turn_deg: float = 0.0
    ) -> None:
        self._setting = setting
        self._turn_deg = turn_deg
        self._frames: dict[str, Frames] = {}
        self._points = np.arange(1 - before, after + 1)
        self._numbers: dict[tuple[str, int], int] = {}
        self._maps: list[ndarray] = []

    def numbers(
        self,
        videos: Shaped[ndarray, " window"],
        time_s: Float[ndarray, " window"],
    ) -> Int[ndarray, "window point"]:
        """Which of the known maps each point of history and horizon shows.

        Before its first frame and after its last one a video stands still.

        Raises:
            ValueError: The setting has no frames of a video.
        """
        numbers = np.empty((len(videos), len(self._points)), dtype=np.int64)
        for video in dict.fromkeys(str(name) for name in videos):
            frames = self._frames_of(video)
            mine = np.flatnonzero(videos == video)
            shown_s = time_s[mine, None] + self._points / self._setting.rate_hz
            on_display = np.floor(shown_s * frames.rate_hz + 1e-6)
            index = np.clip(on_display, 0, frames.count - 1).astype(np.int64)
            for frame in np.unique(index):
                if (video, int(frame)) not in self._numbers:
                    self._numbers[video, int(frame)] = len(self._maps)
                    self._maps.append(_map(frames, int(frame)))
            numbers[mine] = np.vectorize(lambda i, v=video: self._numbers[v, int(i)])(index)
        return numbers

    def _frames_of(self, video: str) -> "Frames":
        if video not in self._frames:
            frames = self._setting.frames_of(video)
            if frames is None:
                raise ValueError(
                    f"saliency needs the frames of {video!r}, but setting {self._setting.name!r} "
                    "has none. Give their folder as setting(..., frames=FOLDER), take the setting "
                    "'synthetic', or use TRACK without saliency."
                )
            self._frames[video] = frames.turned(self._turn_deg)
        return self._frames[video]

    def known(self) -> Float[ndarray, "map 16 32"]:
        """The maps by number."""
        return np.stack(self._maps)


def _map(frames: "Frames", index: int) -> Float[ndarray, "16 32"]:
    try:
        return saliency(frames.draw(index)).astype(np.float32)
    except ValueError as error:
        raise ValueError(f"{frames.source}: frame {index}: {error}") from error
