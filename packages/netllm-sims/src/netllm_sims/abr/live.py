"""Low-latency live streaming: what settings take as usual there, and how the QoE weighs latency."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netllm_sims.abr.settings import Setting
    from netllm_sims.abr.video import Video

FIELDS = {
    "live_target_s": 1.5,
    "rtt_s": 0.0,  # players ask ahead of time, so that no round trip delays what is produced
    "video": "synthetic",
    "chunk_s": 0.5,
    "chunks": 240,
}
"""Of the setting `live`: chunks and latency near those of the Twitch challenge of MMSys 2020."""
NEAR_S = 1.6
"""Latency in s behind the live edge up to which it costs little."""


def weights(video: "Video") -> dict[str, float]:
    """Weights of `QoE` near the live edge, from the video's ladder and length of a chunk.

    A chunk of `D` s at `R` Mbit/s is worth `D R - R_max stall_s - |change of R| - g latency_s -
    R_min |1 - speed|`, where g is `0.05 R_min` up to `NEAR_S` and `0.1 R_max` beyond. Here it is
    divided by D, so that the bitrate counts as it does elsewhere.

    Source: Bentaleb et al., "Catching the Moment with LoL+ in Twitch-Like Low-Latency Live
    Streaming Platforms", IEEE Trans. Multimedia 2022, its QoE model, with the weights of its
    authors' description (README of LLHLS-ABRs).
    """
    low, high = video.rates_kbps[0] / 1000, video.rates_kbps[-1] / 1000
    parts = {"rebuffering": high, "smoothness": 1.0, "near": 0.05 * low, "late": 0.1 * high}
    return {name: weight / video.chunk_s for name, weight in (parts | {"speed": low}).items()}


def usual(target_s: float, video: "Video") -> dict[str, float]:
    """Fields of `Setting` that have other values than for video on demand, unless they are given.

    The buffer's capacity is the target, since no more can be there at the latency aimed at.
    """
    own = weights(video)
    return {
        "buffer_cap_s": target_s,
        "rebuffering": own["rebuffering"],
        "smoothness": own["smoothness"],
    }


def check(setting: "Setting") -> None:
    """Raise ValueError unless a live setting's numbers fit each other."""
    least_s = 2 * setting.video.chunk_s
    if setting.live_target_s < least_s:
        raise ValueError(
            f"`live_target_s` must be 0 (not live) or at least {least_s:g} s, two chunks: one "
            f"plays while the next is produced. Got {setting.live_target_s}; shorten `chunk_s`?"
        )
    if setting.buffer_cap_s < setting.live_target_s:
        raise ValueError(
            f"`buffer_cap_s` must be at least `live_target_s`, {setting.live_target_s} s, got "
            f"{setting.buffer_cap_s}."
        )
    if setting.quality != "linear":
        raise ValueError(
            "`quality` must be 'linear' live, where the QoE weighs latency against the bitrate, "
            f"got {setting.quality!r}."
        )
