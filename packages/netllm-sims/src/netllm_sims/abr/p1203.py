"""Sessions as ITU-T P.1203 reads them, for anyone who has a licence of that model's code."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netllm_sims.setting_values import unknown

if TYPE_CHECKING:
    from netllm_sims.abr.rollout import Rollout
    from netllm_sims.abr.settings import Setting

_CODECS = ("h264", "h265", "vp9", "av1")
_DEVICES = ("pc", "mobile")
_MOST_FPS = 1000.0


def p1203(
    run: "Rollout",
    episode: int,
    setting: "Setting",
    *,
    resolutions: Sequence[str],
    codec: str = "h264",
    fps: float = 25.0,
    display: str = "1920x1080",
    device: str = "pc",
) -> dict[str, Any]:
    """Input of P.1203's mode 0 for one played session, to be written as JSON.

    Every chunk is a video segment with the bitrate of its bytes; there is no audio. A stall lies at
    the media time where playback ran dry. The wait for the first chunk is the stall at time 0; it
    is known only where the rollout recorded what was seen.

    Args:
        run: What was played.
        episode: Which session of it.
        setting: Where it was played; all its sessions show its video.
        resolutions: `WIDTHxHEIGHT` of every level, from the lowest.
        codec: `h264`, `h265`, `vp9` or `av1`.
        fps: Frames per second.
        display: `WIDTHxHEIGHT` of the screen.
        device: `pc` or `mobile`.

    Raises:
        ValueError: There is not one resolution per level, or a word or number is none that P.1203
            knows.

    Source: the inputs I.GEN, I.11, I.13 and I.23 of Recommendation ITU-T P.1203 (10/2017), as the
    JSON of the reference software spells them. Only this input is made: the software itself, which
    may not be used commercially, is no part of this package.
    """
    video = setting.video
    _check_sizes(video.levels, resolutions, display)
    _check_words(codec=(codec, _CODECS), device=(device, _DEVICES))
    if not 0 < fps <= _MOST_FPS:
        raise ValueError(f"`fps` must be > 0 and at most {_MOST_FPS:g} per second, got {fps}.")
    levels = [0, *run.actions[episode].tolist()]
    segments = [
        {
            "bitrate": float(video.sizes_bytes[chunk, level]) * 8e-3 / video.chunk_s,
            "codec": codec,
            "duration": video.chunk_s,
            "fps": fps,
            "resolution": resolutions[level],
            "start": chunk * video.chunk_s,
        }
        for chunk, level in enumerate(levels)
    ]
    waits_s = [0.0, *run.rebuffer_s[episode].tolist()]
    if run.observations:
        waits_s[0] = float(run.observations["stall_s"][episode, 0])
    stalls = [[chunk * video.chunk_s, wait] for chunk, wait in enumerate(waits_s) if wait > 0]
    return {
        "IGen": {"displaySize": display, "device": device},
        "I11": {"segments": [], "streamId": 0},
        "I13": {"segments": segments, "streamId": 0},
        "I23": {"stalling": stalls, "streamId": 0},
    }


def _check_sizes(levels: int, resolutions: Sequence[str], display: str) -> None:
    if len(resolutions) != levels:
        raise ValueError(
            f"`resolutions` must hold one text for each of the {levels} levels, got "
            f"{len(resolutions)}: {[*resolutions]}."
        )
    for name, text in [*[("resolutions", one) for one in resolutions], ("display", display)]:
        if not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", text):
            raise ValueError(f"`{name}` must be like 1280x720, got {text!r}.")


def _check_words(**words: tuple[str, Sequence[str]]) -> None:
    for name, (word, known) in words.items():
        if word not in known:
            raise ValueError(unknown(f"value of `{name}`", word, known))
