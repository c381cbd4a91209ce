"""Reading trajectories: whole data sets, files checked line by line, gaps and rates settled."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.files import unit_warnings
from netllm_sims.files.unit_warnings import Doubt
from netllm_sims.setting_values import unknown
from netllm_sims.vp.folder_or_zip import Tree
from netllm_sims.vp.orientation_checks import odd_orientation
from netllm_sims.vp.resampling import resample
from netllm_sims.vp.trajectories import Trajectory
from netllm_sims.vp.trajectory_formats import Points, parse
from netllm_sims.vp.unit_checks import odd_angles, odd_times
from netllm_sims.vp.user_video_splits import PARTS

Gaps = Literal["error", "split", "interpolate", "keep"]
GAPS: tuple[Gaps, ...] = ("error", "split", "interpolate", "keep")
PUBLISHED_HZ = 5.0
GAP_S = 1.0
_RATE_TOLERANCE = 0.1
_MOST_POINTS = 10_000_000


class Entry(NamedTuple):
    """One file of a data set."""

    part: str | None
    video: str
    user: str
    name: str


def entries(tree: Tree) -> list[Entry]:
    """The trajectory files of `tree`: `<video>/<user>.csv`, or as published.

    Published is `<video>/5Hz/simple_5Hz_<user>.csv`. Above the video there may be folders; when
    the nearest is `train`, `valid` or `test`, it is the part.

    Raises:
        ValueError: No such file, a file outside a folder of a video, two files of one pair, or
            some files in parts and others not.
    """
    found: dict[tuple[str, str], Entry] = {}
    for name in tree.names:
        if not name.endswith(".csv"):
            continue
        *folders, file = name.split("/")
        user = file.removesuffix(".csv")
        if folders and folders[-1] == "5Hz":
            folders.pop()
            user = user.removeprefix("simple_5Hz_")
        if not folders or folders[-1] in PARTS:
            raise ValueError(
                f"{tree.path(name)}: must lie in a folder named like its video, as "
                "video1/user1.csv, got none. Make one folder per video."
            )
        part = folders[-2] if len(folders) > 1 and folders[-2] in PARTS else None
        entry = Entry(part, folders[-1], user, name)
        other = found.setdefault((entry.video, user), entry)
        if other is not entry:
            raise ValueError(
                f"{tree.path(name)}: there must be one file per video and user, got "
                f"{tree.path(other.name)} as well. Remove or rename one."
            )
    if not found:
        raise ValueError(f"{tree.root}: must hold files like video1/user1.csv, got none.")
    if len({entry.part is None for entry in found.values()}) > 1:
        raise ValueError(
            f"{tree.root}: all files must lie in train, valid or test, or none, got both."
        )
    return list(found.values())


def load_trajectories(
    root: str | Path, *, rate_hz: float = 5.0, gaps: Gaps = "error", dataset: str | None = None
) -> list[Trajectory]:
    """Trajectories of a folder or zip with files `<video>/<user>.csv` at a steady rate.

    `formats.parse` describes the files, `read` what becomes of gaps and other rates.

    Args:
        root: The folder or zip.
        rate_hz: Points per second wanted.
        gaps: What to do where more than a second lies between two points.
        dataset: First part of the videos' ids; by default the name of folder or zip.

    Raises:
        ValueError: A file cannot be read; names file, line and remedy.
        FileNotFoundError: There is no such folder or zip.
    """
    tree = Tree(Path(root).expanduser())
    name = dataset or tree.root.resolve().stem
    return read(tree, entries(tree), name, rate_hz=rate_hz, gaps=gaps)


def read(
    tree: Tree,
    chosen: Iterable[Entry],
    dataset: str,
    *,
    rate_hz: float,
    gaps: Gaps,
    as_published: bool = False,
) -> list[Trajectory]:
    """Trajectories of the chosen files, in their order.

    A file whose median step is within 10 % of 1/`rate_hz` keeps its points, another one is
    resampled (`resampling.resample`). Where more than a second lies between two points, `error`
    stops, `split` cuts no window over the gap, `interpolate` fills it along the shortest turn,
    `keep` takes the points as they come. Numbers that look like another unit, or like other axes or
    signs, are named by a warning of the logger `netllm_sims.files.unit_warnings`.

    Args:
        tree: Where the files lie.
        chosen: The files.
        dataset: First part of the videos' ids.
        rate_hz: Points per second wanted.
        gaps: What to do with gaps.
        as_published: With `keep` and 5 Hz, take the points whatever their times, as the reference
            does: the published files are called 5 Hz, though 5 of Jin2022's 2,268 and 3 of
            Wu2017's 864 have gaps of 1 to 39 s, and in 9 of Wu2017's time runs back.
    """
    chosen = list(chosen)
    loaded: list[Trajectory] = []
    odd: list[tuple[object, Doubt]] = []
    most_deg: list[float] = []
    # a zip is open while this loop runs, so files come one by one
    for entry, (path, blocks) in zip(
        chosen, tree.read([entry.name for entry in chosen]), strict=True
    ):
        points = parse(path, blocks)
        odd += [(path, doubt) for doubt in odd_times(points)]
        most_deg += [] if points.most_deg is None else [points.most_deg]
        if as_published and gaps == "keep" and rate_hz == PUBLISHED_HZ:
            times_s, viewports_deg = points.times_s, points.viewports_deg
            breaks: list[int] = []
        else:
            times_s, viewports_deg, breaks = _steady(path, points, rate_hz, gaps)
        video = f"{dataset}/{entry.video}"
        loaded.append(Trajectory(video, entry.user, times_s, viewports_deg, path, tuple(breaks)))
    if not as_published:
        turned = [(one.user, one.viewports_deg) for one in loaded]
        doubts = list(odd_angles(most_deg)) or list(odd_orientation(turned))
        unit_warnings.warn(tree.root, doubts)
        unit_warnings.warn_of_files(tree.root, odd, of=len(chosen))
    return loaded


def _steady(
    path: Path, points: Points, rate_hz: float, gaps: Gaps
) -> tuple[Float[ndarray, "time"], Float[ndarray, "time 3"], list[int]]:
    if gaps not in GAPS:
        raise ValueError(unknown("way with gaps", gaps, GAPS))
    times_s, lines = points.times_s, points.lines
    steps_s = np.diff(times_s)
    back = np.flatnonzero(steps_s <= 0)
    if len(back):
        i = back[0]
        raise ValueError(
            f"{path}:{lines[i + 1]}: time must increase from line to line, got "
            f"{times_s[i + 1]:g} s after {times_s[i]:g} s. Sort by time and remove doubles."
        )
    holes = np.flatnonzero(steps_s > GAP_S) + 1
    if len(holes) and gaps == "error":
        i = holes[0]
        raise ValueError(
            f"{path}:{lines[i]}: between two points there must be at most {GAP_S:g} s, got "
            f"{steps_s[i - 1]:g} s. Choose gaps='split' to cut no window over the gap, "
            "'interpolate' to fill it, or 'keep' to ignore it. Times in ms belong into a column "
            "`time_ms`."
        )
    at_rate = len(steps_s) == 0 or abs(np.median(steps_s) * rate_hz - 1) <= _RATE_TOLERANCE
    if at_rate and not (len(holes) and gaps == "interpolate"):
        return times_s, points.viewports_deg, holes.tolist() if gaps == "split" else []
    _check_span(path, points, rate_hz)
    borders = [0, *(holes.tolist() if gaps == "split" else []), len(times_s)]
    pieces = [
        resample(times_s[begin:end], points.viewports_deg[begin:end], rate_hz=rate_hz)
        for begin, end in pairwise(borders)
    ]
    breaks = np.cumsum([len(times) for times, _ in pieces])[:-1].tolist()
    return np.concatenate([t for t, _ in pieces]), np.concatenate([v for _, v in pieces]), breaks


def _check_span(path: Path, points: Points, rate_hz: float) -> None:
    """Raise unless the points between the first time and the last fit into memory."""
    span_s = points.times_s[-1] - points.times_s[0]
    if span_s * rate_hz > _MOST_POINTS:
        raise ValueError(
            f"{path}:{points.lines[-1]}: a trajectory must have at most {_MOST_POINTS:,} points at "
            f"{rate_hz:g} Hz, got {span_s:g} s. Correct the times; those in ms belong into a "
            "column `time_ms`."
        )
