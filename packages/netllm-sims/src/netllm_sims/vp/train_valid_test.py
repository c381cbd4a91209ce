"""Training, validation and test trajectories of the settings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from netllm_sims.files import unit_warnings
from netllm_sims.own_data import NoneOfPart
from netllm_sims.setting_values import unknown
from netllm_sims.vp import user_video_splits as splits
from netllm_sims.vp.folder_or_zip import Tree
from netllm_sims.vp.orientation_checks import odd_front
from netllm_sims.vp.trajectories import Trajectory
from netllm_sims.vp.trajectory_loading import Entry, Gaps, entries, read

__all__ = [
    "NoneOfPart",
    "Reading",
    "earlier_viewers",
    "own",
    "published",
    "published_root",
    "users_by_part",
]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What to read and how."""

    root: Path
    """Folder or zip."""
    rate_hz: float
    """Points per second."""
    gaps: Gaps
    """What to do with gaps."""
    videos: tuple[str, ...] | None = None
    """Only these."""
    users: tuple[str, ...] | None = None
    """Only these."""
    split: bool = True
    """Whether users of own data without folders of parts are divided; else each is in all parts."""
    front_deg: float = 0.0
    """Yaw of the videos' front, from which own data that lie elsewhere are told by a warning."""


def published_root(data: Path, dataset: str) -> Path | None:
    """Folder or zip of a published data set within the data folder, if there is one."""
    folder, archive = data / "vp" / dataset, data / "vp" / f"{dataset}.zip"
    return folder if folder.is_dir() else archive if archive.is_file() else None


def published(reading: Reading, dataset: str, part: str) -> list[Trajectory]:
    """Trajectories of the published pairs of `part` in their order; those without file are absent.

    Raises:
        NoneOfPart: There is no file of the part.
        ValueError: A file cannot be read.
    """
    tree = Tree(reading.root)
    files = {(entry.video, entry.user): entry for entry in _chosen(reading, entries(tree))}
    listed = [files[pair] for pair in splits.published(dataset, part) if pair in files]
    if not listed:
        raise NoneOfPart(
            f"{reading.root}: must hold files of the {part} part of {dataset}, got none. Restore "
            "the published folder or zip, or choose other videos and users."
        )
    return read(
        tree, listed, dataset, rate_hz=reading.rate_hz, gaps=reading.gaps, as_published=True
    )


def own(reading: Reading, part: str) -> list[Trajectory]:
    """Trajectories of a person's own data: of the folder `part`, else of a share of the users.

    Raises:
        NoneOfPart: There is no file of the part.
        ValueError: A file cannot be read.
    """
    tree = Tree(reading.root)
    every = entries(tree)
    if every[0].part is not None:
        mine = {entry for entry in every if entry.part == part}
        remedy = f"Fill the folder {part}, or use no such folders: then users are split."
    elif not reading.split:
        mine, remedy = set(every), ""
    else:
        users = splits.by_user(entry.user for entry in every)[part]
        mine = {entry for entry in every if entry.user in users}
        remedy = (
            "Fewer than three users are all test: add users, make folders of the parts, or set "
            "split=false, with which every part has all of them."
        )
    files = [entry for entry in _chosen(reading, every) if entry in mine]
    if not files:
        if reading.videos is not None or reading.users is not None:
            remedy = "Choose other videos and users."
        raise NoneOfPart(
            f"{reading.root}: must hold trajectories of the {part} part, got none. {remedy}"
        )
    found = read(tree, files, reading.root.stem, rate_hz=reading.rate_hz, gaps=reading.gaps)
    recordings = [one.viewports_deg for one in found]
    unit_warnings.warn(reading.root, list(odd_front(recordings, reading.front_deg)))
    return found


def earlier_viewers(
    reading: Reading, dataset: str | None, videos: Collection[str]
) -> list[Trajectory]:
    """Trajectories of the train part's users in some videos, of any part; none if none watched.

    Args:
        reading: What to read; `users` and `videos` choose nothing here.
        dataset: The published data set; None for a person's own data.
        videos: Their names, as `video4`.

    Raises:
        ValueError: A file cannot be read.
    """
    tree = Tree(reading.root)
    every = entries(tree)
    if dataset is not None:
        users = {f"user{number}" for number in splits.PUBLISHED[dataset]["train"].users}
        mine = [entry for entry in every if entry.user in users]
    elif every[0].part is not None:
        mine = [entry for entry in every if entry.part == "train"]
    elif not reading.split:
        mine = every
    else:
        known = splits.by_user(entry.user for entry in every)["train"]
        mine = [entry for entry in every if entry.user in known]
    chosen = [entry for entry in mine if entry.video in videos]
    return read(
        tree,
        chosen,
        dataset or reading.root.stem,
        rate_hz=reading.rate_hz,
        gaps=reading.gaps,
        as_published=dataset is not None,
    )


def users_by_part(root: Path) -> dict[str, list[str]] | None:
    """The users of each part of own data; None if they lie in folders of parts."""
    every = entries(Tree(root))
    if every[0].part is not None:
        return None
    return splits.by_user(entry.user for entry in every)


def _chosen(reading: Reading, files: Sequence[Entry]) -> list[Entry]:
    for kind in ("video", "user"):
        known = list(dict.fromkeys(getattr(entry, kind) for entry in files))
        for name in getattr(reading, f"{kind}s") or ():
            if name not in known:
                raise ValueError(f"{reading.root}: {unknown(kind, name, known)}")
    return [
        entry
        for entry in files
        if (reading.videos is None or entry.video in reading.videos)
        and (reading.users is None or entry.user in reading.users)
    ]
