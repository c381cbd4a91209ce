"""Real data: what is public is fetched, every file is verified against its sha256.

`data_registry.txt` holds the hashes of a complete data folder; `tools/data_registry.py` makes it.
The public NetLLM repository has most of the files byte for byte (`address`). The lists of start
pointers are made from what it has (`netllm_sims.abr.published_starts`) and must come out with the
registered hash. The others were converted from that repository's checkpoints and folders: no public
source carries their bytes, so they are listed as missing, never made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pooch import Pooch  # type: ignore[import-untyped]

REGISTRY = Path(__file__).with_name("data_registry.txt")
# The repository's first commit: a fixed address of files that its later commits did not change.
_COMMIT = "32136668e6f20fd0deea44eefbdd4373d6cab178"
_ABR = (
    f"https://raw.githubusercontent.com/duowuyms/NetLLM/{_COMMIT}/adaptive_bitrate_streaming/data"
)


@dataclass(frozen=True)
class Source:
    """Some files of one origin."""

    prefix: str
    """How their paths begin."""
    title: str
    """What they are."""
    licence: str
    """What is known of their licence."""


SOURCES = (
    Source(
        "abr/traces/",
        "bandwidth: FCC broadband and Norway HSDPA, as cooked by Pensieve and GENET",
        "MIT as redistributed in the NetLLM repository; the upstream licence is not stated",
    ),
    Source(
        "abr/videos/",
        "chunk sizes of two videos, from Pensieve and GENET",
        "MIT as redistributed in the NetLLM repository; the upstream licence is not stated",
    ),
    Source(
        "abr/weights/",
        "GENET's and UDR's published actors, converted to NPZ",
        "MIT as redistributed in the NetLLM repository; GENET's licence is not stated",
    ),
    Source(
        "cjs/",
        "TPC-H task durations of decima-sim and Decima's weights, from spark-sched-sim, converted",
        "MIT (spark-sched-sim); the licence of the profiles themselves is not stated",
    ),
    Source(
        "vp/",
        "head movement Jin2022 and Wu2017 at 5 Hz, zipped",
        "MIT as redistributed in the NetLLM repository; the data sets' own terms are not stated",
    ),
)


@dataclass(frozen=True)
class Finding:
    """One registered file of a data folder."""

    path: str
    """Relative to the folder."""
    state: str
    """`good`, `missing` or `differs`."""
    address: str | None
    """Where it can be fetched."""
    made_from: str | None = None
    """Folder whose files it is made from by `fetch`."""


def address(path: str) -> str | None:
    """Where the public NetLLM repository holds a registered file; None for a converted one."""
    match path.split("/"):
        case ["abr", "traces", folder, name]:
            return f"{_ABR}/traces/{folder.removeprefix('fcc-')}/{folder}/{name}"
        case ["abr", "videos", video, name]:
            return f"{_ABR}/videos/{video}_sizes/{name}"
    return None


def made_from(path: str) -> str | None:
    """The folder of traces whose start pointers a registered file lists; None for other files."""
    for kind in ("_mahimahi_ptrs.json", "_generated_ptrs.json"):
        if path.startswith("abr/traces/") and path.endswith(kind):
            return path.removesuffix(kind)
    return None


def cache_folder() -> Path:
    """The folder that is filled unless another is named."""
    from netllm_adapt.backbone import cache_folder

    return cache_folder() / "data"


def registered() -> list[str]:
    """The paths of all files of a complete data folder."""
    return list(_pooch(Path()).registry)


def _pooch(folder: Path) -> Pooch:
    import pooch  # type: ignore[import-untyped]

    files = pooch.create(path=folder, base_url="", retry_if_failed=1)
    files.load_registry(REGISTRY)
    files.urls = {path: where for path in files.registry if (where := address(path))}
    return files


def check(folder: Path, tasks: Iterable[str] = ()) -> list[Finding]:
    """What is there of the registered files, verified by content.

    Args:
        folder: a data folder.
        tasks: only the files of these tasks; all if empty.

    Raises:
        NotADirectoryError: if there is no such folder.
        ValueError: for a task without data.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: there is no such data folder.")
    files = _pooch(folder)
    return [
        Finding(path, _state(folder / path, files.registry[path]), address(path), made_from(path))
        for path in _chosen(files, tasks)
    ]


def fetch(folder: Path, tasks: Iterable[str] = ()) -> list[Finding]:
    """Download what is missing and public, make the lists of start pointers, and say what there is.

    A file that is there but differs is left as it is and reported; of traces that do not lie there
    whole and unchanged no list is made.

    Args:
        folder: the data folder to fill.
        tasks: only the files of these tasks; all if empty.

    Raises:
        OSError: if the source cannot be reached, or the folder cannot be written.
        ValueError: if a downloaded or made file has another sha256 than the registered one.
    """
    from netllm_adapt.files.writing import writing
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    files = _pooch(folder)
    wanted = [
        path
        for path in _chosen(files, tasks)
        if path in files.urls and not (folder / path).exists()
    ]
    for path in tqdm(wanted, desc="fetch", unit="file", disable=None):
        with _reaching(files.urls[path]), writing(folder / path, folder, then="fetch again"):
            files.fetch(path)
    for path in _chosen(files, tasks):
        if made_from(path) and not (folder / path).exists():
            _make(path, files)
    return check(folder, tasks)


@contextmanager
def _reaching(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename:
            raise
        raise OSError(
            f"{where} cannot be fetched ({type(error).__name__}). Files that are already there are "
            "kept; try again later, or use the synthetic settings."
        ) from error


def _make(path: str, files: Pooch) -> None:
    """Write a list of start pointers, if its traces are there as registered."""
    import pooch
    from netllm_adapt.files.writing import new_file
    from netllm_sims.abr import published_starts

    traces = f"{made_from(path)}/"
    members = [one for one in files.registry if one.startswith(traces)]
    root = Path(files.abspath)
    if any(_state(root / one, files.registry[one]) != "good" for one in members):
        return
    names = [one.removeprefix(traces) for one in members]
    if path.endswith("_mahimahi_ptrs.json"):
        where, pickled = f"{address(traces)}mahimahi_ptrs.pkl", BytesIO()
        with _reaching(where):  # its content is verified once it is converted
            pooch.HTTPDownloader()(where, pickled, None)
        content = published_starts.converted(pickled.getvalue(), names)
    else:
        content = published_starts.drawn(root / traces, names)
    if hashlib.sha256(content).hexdigest() != files.registry[path]:
        raise ValueError(
            f"{path}: what was made from {traces} must have the registered sha256 "
            f"{files.registry[path]}, but has another. It was not kept; please report this."
        )
    with new_file(root / path) as work:
        work.write_bytes(content)


def _chosen(files: Pooch, tasks: Iterable[str]) -> list[str]:
    from netllm.unknown_names import unknown

    known = sorted({path.split("/")[0] for path in files.registry})
    wanted = list(tasks) or known
    for task in wanted:
        if task not in known:
            raise unknown("task with data", task, known)
    return [path for path in files.registry if path.split("/")[0] in wanted]


def _state(file: Path, digest: str) -> str:
    if not file.is_file():
        return "missing"
    return "good" if hashlib.sha256(file.read_bytes()).hexdigest() == digest else "differs"
