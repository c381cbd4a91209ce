"""Videos of DASH manifests."""

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from netllm_sims.abr.importers import _dash_segments
from netllm_sims.abr.importers._dash_segments import Segments
from netllm_sims.abr.importers._safe_xml import Place, read_xml
from netllm_sims.abr.video import CHUNKS, Video

_DURATION = re.compile(
    r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", flags=re.ASCII
)


class _Track(NamedTuple):
    """One representation."""

    rate_kbps: float
    segments: Segments
    where: str


def video(file: Path) -> Video:
    """Video of the representations of video in an MPD file.

    They stand in one AdaptationSet, or in several with one each, as ffmpeg writes them. The ladder
    is their `@bandwidth`. The size of a segment is that of its
    `mediaRange` (SegmentList), or else of its file beside the manifest, which SegmentList or
    SegmentTemplate (`$Number$`, `$Time$`, `$RepresentationID$`, `$Bandwidth$`) names. A shorter
    last segment is left out; the others must be equally long within 10 %, their mean is `chunk_s`.

    Raises:
        ValueError: No such manifest, a live one, one whose sizes stand only in the media
            (SegmentBase), representations of different lengths, or files outside the manifest's
            folder; with file and line.
        FileNotFoundError: A segment's file is not there.

    Source: ISO/IEC 23009-1, sections 5.3.9.3 (SegmentList) and 5.3.9.4 (SegmentTemplate).
    """
    root, place = read_xml(file)
    if root.tag != "MPD":
        raise ValueError(f"{place.of(root)}: must be an MPD, got the element {root.tag!r:.60}.")
    if root.get("type", "static") != "static":
        raise ValueError(
            f"{place.of(root)}: the manifest must be static, got type {root.get('type')!r:.60}. "
            "Take that of a recording."
        )
    periods = root.findall("Period")
    if len(periods) != 1:
        raise ValueError(f"{place.of(root)}: there must be one Period, got {len(periods)}.")
    total = periods[0].get("duration") or root.get("mediaPresentationDuration")
    total_s = None if total is None else _seconds(place.of(root), total)
    tracks = [
        _track(file, place, [root, periods[0], one, representation], total_s)
        for one in _chosen(place, periods[0])
        for representation in one.findall("Representation")
    ]
    if not tracks:
        raise ValueError(
            f"{place.of(periods[0])}: a set of video must have a Representation, got none."
        )
    return _video(file, sorted(tracks, key=lambda track: track.rate_kbps))


def _video(file: Path, tracks: list[_Track]) -> Video:
    counts = [len(track.segments.sizes_bytes) for track in tracks]
    for track, count in zip(tracks, counts, strict=True):
        if count != counts[0]:
            raise ValueError(
                f"{track.where}: all representations must have as many segments, got {count} here "
                f"and {counts[0]} in {tracks[0].where}."
            )
    chunk_s = float(np.mean([track.segments.length_s for track in tracks]))
    try:
        return Video(
            name=file.stem,
            rates_kbps=tuple(track.rate_kbps for track in tracks),
            sizes_bytes=np.array([track.segments.sizes_bytes for track in tracks], float).T,
            chunk_s=round(chunk_s, 6),
            chunks=min(CHUNKS, counts[0]),
        )
    except ValueError as fault:
        raise ValueError(f"{file}: {fault}") from None


def _track(file: Path, place: Place, path: list[Element], total_s: float | None) -> _Track:
    own = path[-1]
    bandwidth = own.get("bandwidth", "")
    if not re.fullmatch(r"[0-9]{1,12}", bandwidth) or int(bandwidth) == 0:
        raise ValueError(f"{place.of(own)}: `bandwidth` must be bit/s > 0, got {bandwidth!r:.60}.")
    segments = _dash_segments.read(file, place, path, total_s)
    return _Track(int(bandwidth) / 1e3, _whole(segments), place.of(own))


def _whole(segments: Segments) -> Segments:
    """Without a last segment that is shorter than the others."""
    lengths = segments.lengths_s
    if len(lengths) > 1 and lengths[-1] < 0.9 * lengths[0]:
        return Segments(segments.where, lengths[:-1], segments.sizes_bytes[:-1])
    return segments


def _chosen(place: Place, period: Element) -> list[Element]:
    """The sets of video: one of several representations, or several of one each."""
    sets = [one for one in period.findall("AdaptationSet") if _is_video(one)]
    if not sets:
        raise ValueError(
            f"{place.of(period)}: must have an AdaptationSet of video (`contentType` or "
            "`mimeType`), got none."
        )
    if len(sets) > 1 and any(len(one.findall("Representation")) > 1 for one in sets):
        lines = ", ".join(place.of(one).rpartition(":")[2] for one in sets[:10])
        raise ValueError(
            f"{place.of(sets[1])}: must have one AdaptationSet of video, or several with one "
            f"Representation each, got {len(sets)} (lines {lines}). Remove those that are not "
            "meant, such as other codecs."
        )
    return sets


def _is_video(adaptation: Element) -> bool:
    kinds = [adaptation.get("contentType", ""), adaptation.get("mimeType", "")]
    kinds += [one.get("mimeType", "") for one in adaptation.findall("Representation")]
    return any(kind.startswith("video") for kind in kinds)


def _seconds(where: str, text: str) -> float:
    found = _DURATION.fullmatch(text[:100])
    if found is None:
        raise ValueError(f"{where}: a duration must be like PT1H2M3.5S, got {text!r:.60}.")
    return float(
        sum(float(n or 0) * s for n, s in zip(found.groups(), (86400, 3600, 60, 1), strict=True))
    )
