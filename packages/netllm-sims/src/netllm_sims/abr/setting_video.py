"""The video of a setting: generated, published or somebody's own, with some fields changed."""

from collections.abc import Mapping
from dataclasses import replace
from os.path import isdir
from pathlib import Path
from typing import Any

from netllm_sims.abr.synthetic import vbr_video
from netllm_sims.abr.video import Video, load_video
from netllm_sims.setting_values import items, named_path, number, whole


def video_options(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a video that a setting's overrides name, as `vbr_video` takes them.

    Raises:
        ValueError: No number, or fewer than two rates.
    """
    options: dict[str, Any] = {}
    if overrides.get("rates_kbps") is not None:
        rates = items("rates_kbps", overrides["rates_kbps"])
        if len(rates) < 2:
            raise ValueError(
                f"`rates_kbps` must be at least two rates to choose from, such as 300,750, got "
                f"{overrides['rates_kbps']!r}."
            )
        options["rates_kbps"] = tuple(number("rates_kbps", rate) for rate in rates)
    if overrides.get("chunk_s") is not None:
        options["chunk_s"] = number("chunk_s", overrides["chunk_s"])
    if overrides.get("chunks") is not None:
        options["chunks"] = whole("chunks", overrides["chunks"])
    return options


def setting_video(chosen: object, root: Path | None, options: Mapping[str, Any]) -> Video:
    """The video that a setting names, with some fields changed; None names a generated one.

    Args:
        chosen: A video, a folder of chunk sizes, or the name of one in the data.
        root: Folder of the real data.
        options: As `video_options` gives them.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: What is chosen does not fit the options.
    """
    if chosen is None:
        return vbr_video(0, **options)
    if isinstance(chosen, Video):
        return replace(chosen, **options)
    own = named_path("video", chosen)
    published = own if root is None else root / "abr" / "videos" / own
    if not (isdir(published) or isdir(own)):
        raise FileNotFoundError(_no_video(own, published.parent))
    return load_video(published if isdir(published) else own, **options)


def _no_video(own: Path, videos: Path) -> str:
    near = sorted(one.name for one in videos.glob("*") if next(one.glob("video_size_*"), None))
    return (
        f"{own.resolve()}: there is no such folder of chunk sizes (`video`). Name one with files "
        f"video_size_0, video_size_1, …, or {' or '.join([*near, 'synthetic'])}."
    )
