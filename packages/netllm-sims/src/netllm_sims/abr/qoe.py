"""Quality of experience (QoE) of a streaming session: the quality of chunks, and the weights."""

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import abs as absolute
from numpy import ndarray

from netllm_sims.abr.live import NEAR_S
from netllm_sims.setting_values import unknown

if TYPE_CHECKING:
    from netllm_sims.abr.video import Video

QUALITIES = {
    "linear": "the bitrate in Mbit/s",
    "log": "the logarithm of the bitrate over the lowest",
    "hd": "1, 2, 3, 12, 15 and 20 for the six rates of Pensieve's ladder, of which three are HD",
    "table": "the video's own numbers for every chunk, such as SSIM in dB or VMAF",
}
"""What a chunk's quality may be, each with one line on what that is."""
REBUFFERING = {"linear": 4.3, "log": 2.66, "hd": 8.0, "table": 100.0}
"""Penalty per second without playback that goes with each: Pensieve's, and Puffer's for SSIM."""
_HD = {300.0: 1, 750.0: 2, 1200.0: 3, 1850.0: 12, 2850.0: 15, 4300.0: 20}


def quality_thousandths(kind: str, video: "Video") -> Float[ndarray, "chunk level"]:
    """Quality of every chunk at every level, times 1,000: for `linear` the rate in kbit/s.

    Raises:
        ValueError: An unknown kind, or one that the video has no numbers for.

    Source: table 1 of Pensieve (Mao et al., SIGCOMM 2017).
    """
    rates = video.rates_kbps
    if kind not in QUALITIES:
        raise ValueError(unknown("value of `quality`", kind, list(QUALITIES)))
    if kind == "table":
        if video.quality is None:
            raise ValueError(
                f"`quality` is 'table', but video `{video.name}` has none. Put files "
                "video_quality_0, video_quality_1, … beside its sizes, or set another quality."
            )
        return 1000 * video.quality
    of_level = np.array(rates)
    if kind == "log":
        of_level = 1000 * np.log(of_level / rates[0])
    if kind == "hd":
        if not set(rates) <= _HD.keys():
            told = ", ".join(f"{rate:g}" for rate in rates)
            raise ValueError(
                f"`quality` 'hd' is defined for the rates {[*_HD]} kbit/s, got {told}. Set another."
            )
        of_level = 1000.0 * np.array([_HD[rate] for rate in rates])
    return np.tile(of_level, (len(video.sizes_bytes), 1))


@dataclass(frozen=True, kw_only=True)
class QoE:
    """Weights of the QoE: `quality - rebuffering * stall_s - smoothness * |change of quality|`.

    Near the live edge also less `near * latency_s` (`late * latency_s` above `NEAR_S`) and less
    `speed * |1 - speed of playback|`. Quality is in Mbit/s unless the setting says otherwise
    (`QUALITIES`).

    Source: Yin et al., SIGCOMM 2015, section 3; weights of Pensieve (Mao et al., SIGCOMM 2017) and
    NetLLM; those of the live edge: `netllm_sims.abr.live`.
    """

    rebuffering: float = 4.3
    """Penalty per second without playback, in the unit of quality."""
    smoothness: float = 1.0
    """Penalty per unit of change between two chunks."""
    near: float = 0.0
    """Penalty per second behind the live edge, where that is at most `NEAR_S`."""
    late: float = 0.0
    """Penalty per second behind it where it is more."""
    speed: float = 0.0
    """Penalty per unit by which the speed of playback differs from 1."""

    def __post_init__(self) -> None:
        for name in ("rebuffering", "smoothness", "near", "late", "speed"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be a finite weight >= 0, got {value}.")

    def __call__(
        self,
        quality: Float[ndarray, "*chunk"],
        rebuffer_s: Float[ndarray, "*chunk"],
        change: Float[ndarray, "*chunk"],
        latency_s: Float[ndarray, "*chunk"] | float = 0.0,
        speed: Float[ndarray, "*chunk"] | float = 1.0,
    ) -> Float[ndarray, "*chunk"]:
        """QoE of each chunk from its parts, in the unit of quality."""
        worth = quality - self.rebuffering * rebuffer_s - self.smoothness * absolute(change)
        late = np.where(np.less_equal(latency_s, NEAR_S), self.near, self.late) * latency_s
        return worth - late - self.speed * absolute(1.0 - speed)
