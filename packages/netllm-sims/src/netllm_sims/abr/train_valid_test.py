"""Training, validation and test parts of the settings, without a trace in two of them."""

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from netllm_sims import own_data as folders
from netllm_sims.abr.cellular import CELLULAR, cellular_trace
from netllm_sims.abr.many_starts import heard_stretches, stretches
from netllm_sims.abr.many_starts import many_starts as from_many_starts
from netllm_sims.abr.published_starts import read_starts
from netllm_sims.abr.sessions import Session
from netllm_sims.abr.synthetic import genet_trace, markov_trace
from netllm_sims.abr.traces import Trace, load_traces

PARTS = folders.PARTS
_SYNTHETIC = {"train": 300, "valid": 60, "test": 100}


def published(data: Path, name: str) -> list[Session]:
    """Sessions of a published trace folder in file order, each at its published start pointer.

    Raises:
        ValueError: The pointers do not fit the files.
        FileNotFoundError: A file or folder is missing.
    """
    return list(_published(data / "abr" / "traces", name))


@cache
def _published(folder: Path, name: str) -> tuple[Session, ...]:
    traces = load_traces(folder / name)
    kind = "mahimahi" if name == "fcc-test" else "generated"
    file = folder / f"{name}_{kind}_ptrs.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: the published sessions need this list of start pointers, and it is not "
            f"there. `netllm data fetch abr --data {folder.parents[1]}` makes it from the "
            "published traces; own traces (`--set traces=FOLDER`) need none."
        )
    starts_s = read_starts(file, traces)
    return tuple(
        Session(trace.id, trace, start_s) for trace, start_s in zip(traces, starts_s, strict=True)
    )


def default(data: Path, part: str) -> list[Session]:
    """Part of the clean split: no trace of `train` or `valid` has the content of one in `test`.

    `test` is fcc-test. The rest of fcc-train is divided by content hash: the lowest fifth is
    `valid`.

    Tags of test sessions: `clean` (58), the content of the trace occurs in no file of fcc-train;
    `disjoint` (19 of these), neither does any stretch of ten points. The other 39 clean traces are
    excerpts of longer training files.
    """
    return list(_default(data, part))


@cache
def _default(data: Path, part: str) -> list[Session]:
    train, test = published(data, "fcc-train"), published(data, "fcc-test")
    if part == "test":
        return _tag(test, [session.trace for session in train])
    taken = {session.trace.digest for session in test}
    mine = {s.trace.digest: s for s in reversed(train) if s.trace.digest not in taken}
    held_out = sorted(mine)[: len(mine) // 5]
    return [
        session
        for session in train
        if mine.get(session.trace.digest) is session
        and (session.trace.digest in held_out) == (part == "valid")
    ]


def _tag(test: list[Session], train: list[Trace]) -> list[Session]:
    seen = {trace.digest for trace in train}
    heard = heard_stretches(train)
    tagged = []
    for session in test:
        clean = session.trace.digest not in seen
        disjoint = clean and heard.isdisjoint(stretches(session.trace))
        tags = ("clean",) * clean + ("disjoint",) * disjoint
        tagged.append(Session(session.id, session.trace, session.start_s, tags=tags))
    return tagged


def many_starts(data: Path, part: str) -> list[Session]:
    """Part of `default`; `test` is its traces from a start every 20 s, 1,600 sessions.

    They have the tags of `default`, and 471 the tag `fresh`. fcc-valid adds none: 90 of its 150
    traces are in `default`'s training part, 19 in its validation part, and 41 in fcc-test.
    """
    return list(_many_starts(data)) if part == "test" else default(data, part)


@cache
def _many_starts(data: Path) -> tuple[Session, ...]:
    learned_from = [*default(data, "train"), *default(data, "valid")]
    return tuple(from_many_starts(default(data, "test"), learned_from))


def paper_split(data: Path, part: str) -> list[Session]:
    """Part of the published split: all of fcc-valid and 42 of fcc-test are in fcc-train too."""
    return default(data, "test") if part == "test" else published(data, f"fcc-{part}")


def published_files(name: str) -> list[str]:
    """The published folders of traces, and lists of start pointers, that a setting is made of."""
    lists = {"fcc-train": "generated", "fcc-valid": "generated", "fcc-test": "mahimahi"}
    if name != "paper-split":
        del lists["fcc-valid"]
    return [one for part, kind in lists.items() for one in (part, f"{part}_{kind}_ptrs.json")]


def unseen_bandwidth() -> list[Session]:
    """100 seeded traces of GENET's published `easy` range, each at a seeded start.

    The paper's own traces were never published; on video1 these give BBA and MPC the QoE 1.58 and
    2.00, the paper's 1.58 and 1.98 (seven other seeds: 1.51 to 1.70 and 1.92 to 2.12).
    """
    return list(_unseen_bandwidth())


@cache
def _unseen_bandwidth() -> list[Session]:
    sessions = []
    for i in range(100):
        rng = np.random.default_rng([3, i])
        sessions.append(_start(genet_trace(rng, id=f"genet-{i:03d}"), rng))
    return sessions


def synthetic(part: str) -> list[Session]:
    """Part of the seeded Markov-modulated traces; the parts have seeds of their own."""
    return list(_synthetic(part))


@cache
def _synthetic(part: str) -> list[Session]:
    sessions = []
    for i in range(_SYNTHETIC[part]):
        rng = np.random.default_rng([PARTS.index(part), i])
        sessions.append(_start(markov_trace(rng, id=f"{part}-{i:03d}"), rng))
    return sessions


def cellular(links: Sequence[str], part: str) -> list[Session]:
    """Part of the seeded traces like published sets of mobile ones, each at a seeded start.

    Args:
        links: Names of `CELLULAR`, taken in turn; each session has the name as its tag.
        part: `train`, `valid` or `test`; the parts have seeds of their own.
    """
    return list(_cellular(tuple(links), part))


@cache
def _cellular(links: tuple[str, ...], part: str) -> list[Session]:
    sessions = []
    for i in range(_SYNTHETIC[part]):
        link = links[i % len(links)]
        rng = np.random.default_rng([5, PARTS.index(part), i])
        trace = cellular_trace(CELLULAR[link], rng, id=f"{link}-{part}-{i:03d}")
        sessions.append(_start(trace, rng, tags=(link,)))
    return sessions


def _start(trace: Trace, rng: np.random.Generator, tags: tuple[str, ...] = ()) -> Session:
    pointer = int(rng.integers(1, len(trace.time_s)))
    return Session(trace.id, trace, float(trace.time_s[pointer - 1]), tags=tags)


def own(folder: Path, part: str, *, split: bool = True) -> list[Session]:
    """Sessions of a person's own folder, each from the trace's start.

    A folder with subfolders `train`, `valid`, `test` gives each part its own. A flat one is divided
    by content: in the order of the traces' digests the first fifth tests, the next validates, the
    others train, whatever the files are called, and traces of equal content are in one part.

    Args:
        folder: The folder.
        part: `train`, `valid` or `test`.
        split: Whether a flat folder is divided; else every part has all of it.

    Raises:
        NoneOfPart: There is no such part, or too few traces for it.
        ValueError: A file is no trace, or files lie beside folders of parts.
    """
    inner = folders.subfolder(folder, part)
    traces = _read(inner or folder)
    if inner is None and split:
        mine = folders.by_content(trace.digest for trace in traces)
        if not mine[part]:
            raise folders.too_few(folder, "traces", len(mine["test"]), part)
        traces = tuple(trace for trace in traces if trace.digest in mine[part])
    return [Session(trace.id, trace) for trace in traces]


def own_parts(folder: Path) -> dict[str, frozenset[str]] | None:
    """Digests of the traces of each part of a flat folder; None if it has folders of parts."""
    if folders.parts_of(folder):
        return None
    return folders.by_content(trace.digest for trace in _read(folder))


def _read(folder: Path) -> tuple[Trace, ...]:
    return _read_once(folder, folders.stamp(folder) if folder.is_dir() else ())


@lru_cache(maxsize=8)
def _read_once(folder: Path, stamp: folders.Stamp) -> tuple[Trace, ...]:
    """Read once as long as the stamp, files with times and sizes, stays the same."""
    return tuple(load_traces(folder))


def draw(fixed: Sequence[Session], rng: np.random.Generator, *, id: str) -> Session:
    """Session with a random trace of `fixed` and a random start within it."""
    session = fixed[int(rng.integers(len(fixed)))]
    start_s = float(rng.uniform(0.0, session.trace.period_s))
    return Session(id, session.trace, start_s, tags=session.tags)
