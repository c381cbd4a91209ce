"""The file formats of trajectories, told apart by their header."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.vp import geometry

_TIME = {"time": 1.0, "time_s": 1.0, "timestamp": 1.0, "timestamp_s": 1.0, "t": 1.0}
_TIME |= {"time_ms": 1e-3, "timestamp_ms": 1e-3}
_UNIT_TOLERANCE = 1e-3
_PUBLISHED = ("time", "roll", "pitch", "yaw")


class Points(NamedTuple):
    """Points of a trajectory and the line of the file that each came from."""

    times_s: Float[ndarray, "time"]
    viewports_deg: Float[ndarray, "time 3"]
    lines: Int[ndarray, "time"]


class Format(NamedTuple):
    """How a file states where a head points."""

    columns: tuple[str, ...]
    to_viewports: Callable[[ndarray], ndarray]
    unit: str = ""
    """What must have length 1."""


_FORMATS = (
    Format(("qx", "qy", "qz", "qw"), geometry.from_quaternions, "quaternion"),
    Format(("x", "y", "z"), geometry.from_vectors, "vector"),
    Format(("roll", "pitch", "yaw"), lambda angles: angles),
    Format(("yaw", "pitch"), geometry.from_yaw_pitch),
)


def parse(path: Path, content: bytes) -> Points:
    """Points of a trajectory file, its numbers checked but not the order of its times.

    The header tells what the columns are, in any order and with others between them:

    * `time,qx,qy,qz,qw`: unit quaternions that turn the head's axes into the world's;
    * `time,x,y,z`: unit vectors along the line of sight, in the axes of `geometry` (x right,
      y down, z ahead), of an untilted head;
    * `time,yaw,pitch`: longitude and latitude in degrees of an untilted head's line of sight;
    * `time,roll,pitch,yaw`: degrees as in the published data, which have no header.

    `time` is in s, `time_ms` in ms. Angles may end with `_deg`, quaternions may be `x,y,z,w`.

    Args:
        path: Where the content came from, for messages.
        content: The file's bytes.

    Raises:
        ValueError: A line that cannot be read, with file, line and remedy.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    header, first = _header(path, content)
    time, seconds, form, places = _columns(path, header, first)
    values, lines = _table(path, content, len(header), first, [time, *places])
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        line = lines[np.flatnonzero(~finite)[0]]
        raise ValueError(f"{path}:{line}: {_NUMBERS}, got NaN or infinity. {_REMEDY}")
    return Points(values[:, 0] * seconds, _viewports(path, form, values[:, 1:], lines), lines)


_NUMBERS = "time and angles must be finite numbers"
_REMEDY = "Correct or remove the line."


def _header(path: Path, content: bytes) -> tuple[list[str], int]:
    """Names of the columns and the number of lines up to and with the header."""
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        cells = [cell.strip(b' "').decode(errors="replace").lower() for cell in text.split(b",")]
        try:
            float(cells[0])
        except ValueError:
            return cells, number
        if len(cells) != len(_PUBLISHED):
            raise ValueError(
                f"{path}:{number}: a file without a header must hold {len(_PUBLISHED)} columns "
                f"({','.join(_PUBLISHED)}), got {len(cells)}. Name the columns in the first line."
            )
        return list(_PUBLISHED), number - 1
    raise ValueError(f"{path}:1: a trajectory must hold at least one point, got an empty file.")


def _columns(path: Path, header: list[str], line: int) -> tuple[int, float, Format, list[int]]:
    names = [name.removesuffix("_deg") for name in header]
    if "w" in names:
        names = [f"q{name}" if name in "xyzw" else name for name in names]
    times = [i for i, name in enumerate(names) if name in _TIME]
    if len(times) > 1:
        raise ValueError(
            f"{path}:{max(line, 1)}: the header must name the time once, got {','.join(header)}. "
            "Rename or remove the column that is not meant."
        )
    time = times[0] if times else None
    for form in _FORMATS:
        if time is not None and set(form.columns) <= set(names):
            if twice := [name for name in form.columns if names.count(name) > 1]:
                raise ValueError(
                    f"{path}:{max(line, 1)}: the header must name {twice[0]} once, got "
                    f"{','.join(header)}. Rename or remove the column that is not meant."
                )
            return time, _TIME[names[time]], form, [names.index(name) for name in form.columns]
    raise ValueError(
        f"{path}:{max(line, 1)}: the header must name `time` and one of "
        f"{'; '.join(','.join(form.columns) for form in _FORMATS)}, got {','.join(header)}."
    )


def _table(
    path: Path, content: bytes, width: int, skip: int, places: list[int]
) -> tuple[Float[ndarray, "row place"], Int[ndarray, "row"]]:
    """The numbers at some places of the columns below the header, and the line of each row."""
    content = content if content.endswith(b"\n") else content + b"\n"
    body = content.split(b"\n", skip)[skip]
    codes = np.frombuffer(body, np.uint8)
    ends = codes[(codes == ord(",")) | (codes == ord("\n"))]
    regular = np.tile(
        np.array([ord(",")] * (width - 1) + [ord("\n")], np.uint8), len(ends) // width
    )
    if np.array_equal(ends, regular) and b"_" not in body:
        try:
            cells = np.array(body.replace(b"\n", b",")[:-1].split(b","), dtype=np.float64)
        except ValueError:  # blank lines of one column, comments, words
            pass
        else:
            rows = cells.reshape(-1, width)
            return rows[:, places], np.arange(skip + 1, skip + 1 + len(rows))
    return _line_by_line(path, body, width, skip, places)


def _line_by_line(
    path: Path, body: bytes, width: int, skip: int, places: list[int]
) -> tuple[Float[ndarray, "row place"], Int[ndarray, "row"]]:
    """As `_table`, but skips blank lines and comments, and says what is wrong where."""
    rows, lines = [], []
    for number, line in enumerate(body.split(b"\n"), skip + 1):
        text = line.strip().decode(errors="replace")
        if not text or text.startswith("#"):
            continue
        cells = [cell.strip(' "') for cell in text.split(",")]
        if len(cells) != width:
            raise ValueError(
                f"{path}:{number}: the line must hold {width} columns, got {text[:80]!r}. {_REMEDY}"
            )
        try:
            rows.append([float(cells[place].replace("_", "?")) for place in places])
        except ValueError:
            raise ValueError(f"{path}:{number}: {_NUMBERS}, got {text[:80]!r}. {_REMEDY}") from None
        lines.append(number)
    if not rows:
        raise ValueError(
            f"{path}:{max(skip, 1)}: a trajectory must hold at least one point, got none."
        )
    return np.array(rows), np.array(lines)


def _viewports(
    path: Path, form: Format, values: Float[ndarray, "time cell"], lines: Int[ndarray, "time"]
) -> Float[ndarray, "time 3"]:
    if form.unit:
        length = np.linalg.norm(values, axis=1)
        wrong = np.flatnonzero(np.abs(length - 1) > _UNIT_TOLERANCE)
        if len(wrong):
            raise ValueError(
                f"{path}:{lines[wrong[0]]}: a {form.unit} must be of length 1 within "
                f"{_UNIT_TOLERANCE:g}, got {length[wrong[0]]:.6g}. Normalise it."
            )
    else:
        pitch = values[:, form.columns.index("pitch")]
        wrong = np.flatnonzero(np.abs(pitch) > 90)
        if len(wrong):
            raise ValueError(
                f"{path}:{lines[wrong[0]]}: pitch must lie in [-90, 90] degrees, got "
                f"{pitch[wrong[0]]:g}. Correct the line, or mind the order of the columns."
            )
    return geometry.wrap_deg(form.to_viewports(values))
