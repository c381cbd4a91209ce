"""Segments of a representation of a DASH manifest: how long they are, and of how many bytes."""

import re
from math import ceil
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import Element

from netllm_sims.abr.importers._safe_xml import Place

_MOST_SEGMENTS = 100_000
_NUMBERS = {"timescale": 1, "startNumber": 1}
_VARIABLE = re.compile(r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%0([1-9])d)?)?\$")


class Segments(NamedTuple):
    """The segments of a representation."""

    where: str
    lengths_s: list[float]
    sizes_bytes: list[int]

    @property
    def length_s(self) -> float:
        """Mean length.

        Raises:
            ValueError: They differ by more than 10 %.
        """
        mean = sum(self.lengths_s) / len(self.lengths_s)
        odd = next((one for one in self.lengths_s if abs(one - mean) > 0.1 * mean), None)
        if odd is not None:
            raise ValueError(
                f"{self.where}: segments must be equally long within 10 %, got {odd:g} s where the "
                f"mean is {mean:g} s."
            )
        return mean


class _Part(NamedTuple):
    """A SegmentList or SegmentTemplate with what it inherits."""

    where: str
    attributes: dict[str, str]
    timeline: Element | None
    urls: list[Element]


def read(file: Path, place: Place, path: list[Element], total_s: float | None) -> Segments:
    """Segments of the last element of `path`, a Representation, which inherits from those above.

    Raises:
        ValueError: There is no list or template, or it cannot be read; with file and line.
        FileNotFoundError: A segment's file is not there.
    """
    own = path[-1]
    if part := _merged(place, path, "SegmentTemplate"):
        return _of_template(file, place, path, part, total_s)
    if part := _merged(place, path, "SegmentList"):
        return _of_list(file, place, path, part, total_s)
    raise ValueError(
        f"{place.of(own)}: a representation must have a SegmentList or SegmentTemplate, got none. "
        "With SegmentBase the sizes stand in the media only: let a packager write a list, such as "
        "`MP4Box -dash 4000 -url-template`."
    )


def _merged(place: Place, path: list[Element], tag: str) -> _Part | None:
    attributes: dict[str, str] = {}
    timeline, urls, where = None, list[Element](), ""
    for element in path:
        if (found := element.find(tag)) is not None:
            attributes |= found.attrib
            own = found.find("SegmentTimeline")
            timeline = timeline if own is None else own
            urls = found.findall("SegmentURL") or urls
            where = place.of(found)
    return _Part(where, attributes, timeline, urls) if where else None


def _of_list(
    file: Path, place: Place, path: list[Element], part: _Part, total_s: float | None
) -> Segments:
    if not part.urls:
        raise ValueError(f"{part.where}: a SegmentList must have a SegmentURL, got none.")
    lengths, _ = _timing(place, part, len(part.urls), total_s)
    sizes = []
    for url in part.urls:
        if text := url.get("mediaRange"):
            sizes.append(_range(place.of(url), text))
        else:
            sizes.append(_size(file, place.of(url), path, url.get("media", "")))
    return Segments(part.where, lengths, sizes)


def _of_template(
    file: Path, place: Place, path: list[Element], part: _Part, total_s: float | None
) -> Segments:
    media = part.attributes.get("media", "")
    lengths, starts = _timing(place, part, None, total_s)
    first = _natural(part, "startNumber")
    sizes = []
    for place_in, start in enumerate(starts):
        values = {
            "RepresentationID": path[-1].get("id", ""),
            "Bandwidth": path[-1].get("bandwidth", ""),
            "Number": str(first + place_in),
            "Time": str(start),
        }
        name = _VARIABLE.sub(lambda found, values=values: _filled(found, values), media)  # type: ignore[misc]
        sizes.append(_size(file, part.where, path, name))
    return Segments(part.where, lengths, sizes)


def _filled(found: re.Match[str], values: dict[str, str]) -> str:
    return "$" if found[1] is None else values[found[1]].rjust(int(found[2] or 0), "0")


def _timing(
    place: Place, part: _Part, count: int | None, total_s: float | None
) -> tuple[list[float], list[int]]:
    """Length in s of each segment, and its start in units of the timescale."""
    scale = _natural(part, "timescale") or 1
    if part.timeline is not None:
        ticks = _timeline(place, part.timeline, None if total_s is None else total_s * scale)
        if count is not None and len(ticks) != count:
            raise ValueError(
                f"{part.where}: the timeline must have one entry per SegmentURL, got {len(ticks)} "
                f"for {count}."
            )
        return [length / scale for _, length in ticks], [start for start, _ in ticks]
    length = _natural(part, "duration")
    if not length:
        raise ValueError(f"{part.where}: must have a `duration` > 0 or a SegmentTimeline.")
    if count is None:
        if total_s is None:
            raise ValueError(
                f"{part.where}: the manifest must say how long it is (`mediaPresentationDuration`)."
            )
        count = min(ceil(total_s * scale / length - 1e-6), _MOST_SEGMENTS + 1)
    _few(part.where, count)
    lengths = [length / scale] * count
    if total_s is not None and count:
        lengths[-1] = min(lengths[-1], max(total_s - (count - 1) * length / scale, 0.0))
    return lengths, [number * length for number in range(count)]


def _timeline(place: Place, timeline: Element, total: float | None) -> list[tuple[int, int]]:
    """Start and length of each segment."""
    ticks: list[tuple[int, int]] = []
    now = 0
    for entry in timeline.findall("S"):
        where = place.of(entry)
        numbers = {key: entry.get(key) for key in ("t", "d", "r")}
        for key, text in numbers.items():
            if text is not None and not re.fullmatch(r"-?[0-9]{1,15}", text):
                raise ValueError(f"{where}: `{key}` must be a whole number, got {text!r:.60}.")
        now = int(numbers["t"] or now)
        length, again = int(numbers["d"] or 0), int(numbers["r"] or 0)
        if length <= 0 or now < 0:
            raise ValueError(f"{where}: `d` must be > 0 and `t` >= 0, got {length} and {now}.")
        if again < 0:  # up to the end
            again = max(ceil(((total or 0) - now) / length - 1e-6) - 1, 0)
        _few(where, len(ticks) + again + 1)
        ticks += [(now + i * length, length) for i in range(again + 1)]
        now += (again + 1) * length
    return ticks


def _few(where: str, count: int) -> None:
    """Raise unless there are some segments, and not too many."""
    if not 1 <= count <= _MOST_SEGMENTS:
        got = "none" if count < 1 else "more"
        raise ValueError(f"{where}: there must be 1 to {_MOST_SEGMENTS:,} segments, got {got}.")


def _natural(part: _Part, name: str) -> int:
    text = part.attributes.get(name, str(_NUMBERS.get(name, 0)))
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"{part.where}: `{name}` must be a whole number >= 0, got {text!r:.60}.")
    return int(text)


def _range(where: str, text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", text)
    if found is None or int(found[2]) < int(found[1]):
        raise ValueError(
            f"{where}: `mediaRange` must be the first and the last byte, such as 0-999, got "
            f"{text!r:.60}."
        )
    return int(found[2]) - int(found[1]) + 1


def _size(file: Path, where: str, path: list[Element], name: str) -> int:
    """Bytes of a segment's file beside the manifest."""
    bases = [(element.findtext("BaseURL") or "").strip() for element in path]
    relative = PurePosixPath(*(base for base in bases if base), name)
    text = str(relative)
    if not name or relative.is_absolute() or ".." in relative.parts or re.search(r":|\\|\0", text):
        raise ValueError(
            f"{where}: a segment must be a file beside the manifest, got {text!r:.80}. Fetch the "
            "segments into its folder, and make BaseURL relative, or write their `mediaRange`."
        )
    segment = file.parent / relative
    if not segment.is_file():
        raise FileNotFoundError(
            f"{where}: the segment {segment} is not there. Fetch it, or write its `mediaRange`."
        )
    return segment.stat().st_size
