"""The file formats of trajectories, told apart by their header."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.files.number_tables import Layout, first_line, read_table, without_first
from netllm_sims.files.reading import Block
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
    says_time: bool = True
    """Whether the file itself says the unit of its times."""
    most_deg: float | None = None
    """Largest magnitude of an angle as written, where the file does not say its unit."""


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


def parse(path: Path, blocks: Iterator[Block]) -> Points:
    """Points of a trajectory file, its numbers checked but not the order of its times.

    The header tells what the columns are, in any order and with others between them:

    * `time,qx,qy,qz,qw`: unit quaternions that turn the head's axes into the world's;
    * `time,x,y,z`: unit vectors along the line of sight, in the axes of `geometry` (x right,
      y down, z ahead), of an untilted head;
    * `time,yaw,pitch`: longitude and latitude in degrees of an untilted head's line of sight;
    * `time,roll,pitch,yaw`: degrees as in the published data, which have no header.

    `time` is in s, `time_ms` in ms. Angles may end with `_deg`, quaternions may be `x,y,z,w`.

    Args:
        path: Where the lines came from, for messages.
        blocks: The file's lines.

    Raises:
        ValueError: A line that cannot be read, with file, line and remedy.
    """
    (number, first), rest = first_line(blocks, path, empty=_EMPTY)
    header = [cell.strip(' "').lower() for cell in first.split(",")]
    if _is_number(header[0]):
        if len(header) != len(_PUBLISHED):
            raise ValueError(
                f"{path}:{number}: a file without a header must hold {len(_PUBLISHED)} columns "
                f"({','.join(_PUBLISHED)}), got {len(header)}. Name the columns in the first line."
            )
        header = list(_PUBLISHED)
    else:
        rest = without_first(rest)
    time, form, places = _columns(path, header, number)
    layout = Layout(len(header), (time, *places), separator=",", what="time and angles")
    values, lines = read_table(rest, path, layout)
    if not len(lines):
        raise ValueError(f"{path}:{number}: {_EMPTY}")
    return Points(
        values[:, 0] * _TIME[header[time]],
        _viewports(path, form, values[:, 1:], lines),
        lines,
        says_time="_" in header[time],
        most_deg=None if form.unit or _says_degrees(header, places) else _most(values[:, 1:]),
    )


_EMPTY = "a trajectory must hold at least one point, got none."


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _says_degrees(header: list[str], places: list[int]) -> bool:
    return any(header[place].endswith("_deg") for place in places)


def _most(angles_deg: Float[ndarray, "time angle"]) -> float:
    return float(np.abs(angles_deg).max())


def _columns(path: Path, header: list[str], line: int) -> tuple[int, Format, list[int]]:
    names = [name.removesuffix("_deg") for name in header]
    header_text = f"{','.join(header):.200}"
    if "w" in names:
        names = [f"q{name}" if name in "xyzw" else name for name in names]
    times = [i for i, name in enumerate(names) if name in _TIME]
    if len(times) > 1:
        raise ValueError(
            f"{path}:{line}: the header must name the time once, got {header_text}. "
            "Rename or remove the column that is not meant."
        )
    for form in _FORMATS:
        if times and set(form.columns) <= set(names):
            if twice := [name for name in form.columns if names.count(name) > 1]:
                raise ValueError(
                    f"{path}:{line}: the header must name {twice[0]} once, got {header_text}. "
                    "Rename or remove the column that is not meant."
                )
            return times[0], form, [names.index(name) for name in form.columns]
    raise ValueError(
        f"{path}:{line}: the header must name `time` and one of "
        f"{'; '.join(','.join(form.columns) for form in _FORMATS)}, got {header_text}."
    )


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
