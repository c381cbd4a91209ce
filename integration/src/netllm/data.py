"""Real data: what is public is fetched, every file is verified against its sha256.

`data_registry.txt` holds the hashes of a complete data folder; `tools/data_registry.py` makes it.
The public NetLLM repository has most of the files byte for byte (`address`). The others were
converted from that repository's pickles, checkpoints and folders: no public source carries their
bytes, so they are listed as missing, never made up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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


def address(path: str) -> str | None:
    """Where the public NetLLM repository holds a registered file; None for a converted one."""
    match path.split("/"):
        case ["abr", "traces", folder, name]:
            return f"{_ABR}/traces/{folder.removeprefix('fcc-')}/{folder}/{name}"
        case ["abr", "videos", video, name]:
            return f"{_ABR}/videos/{video}_sizes/{name}"
    return None


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
        Finding(path, _state(folder / path, files.registry[path]), address(path))
        for path in _chosen(files, tasks)
    ]


def fetch(folder: Path, tasks: Iterable[str] = ()) -> list[Finding]:
    """Download what is missing and public, and say what there is afterwards.

    A file that is there but differs is left as it is and reported.

    Args:
        folder: the data folder to fill.
        tasks: only the files of these tasks; all if empty.

    Raises:
        OSError: if the source cannot be reached, or the folder cannot be written.
        ValueError: if a downloaded file has another sha256 than the registered one.
    """
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    files = _pooch(folder)
    wanted = [
        path
        for path in _chosen(files, tasks)
        if path in files.urls and not (folder / path).exists()
    ]
    for path in tqdm(wanted, desc="fetch", unit="file", disable=None):
        try:
            files.fetch(path)
        except OSError as error:
            raise OSError(
                f"{files.urls[path]} cannot be fetched ({type(error).__name__}). Files that are "
                "already there are kept; try again later, or use the synthetic settings."
            ) from error
    return check(folder, tasks)


def source(path: str) -> Source:
    """The origin of a registered file."""
    return next(one for one in SOURCES if path.startswith(one.prefix))


def _chosen(files: Pooch, tasks: Iterable[str]) -> list[str]:
    from netllm.registry import unknown

    known = sorted({path.split("/")[0] for path in files.registry})
    wanted = list(tasks) or known
    for task in wanted:
        if task not in known:
            raise unknown("task with data", task, known)
    return [path for path in files.registry if path.split("/")[0] in wanted]


def _state(file: Path, digest: str) -> str:
    import hashlib

    if not file.is_file():
        return "missing"
    return "good" if hashlib.sha256(file.read_bytes()).hexdigest() == digest else "differs"
