"""Job sequences of the settings' parts, none of them in two."""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from netllm_sims import own_data as folders
from netllm_sims.cjs.alibaba_graphs import alibaba_dag
from netllm_sims.cjs.jobs import Catalogue, Job, Workload
from netllm_sims.cjs.random_graphs import random_dag
from netllm_sims.setting_values import unknown

PARTS = folders.PARTS

SEEDS = {"train": range(1000, 1100), "valid": range(20, 30), "test": range(666, 686)}
"""Job sequences of a part as it stands; 666 is the published one."""

DRAWN = {"train": (10_000, 2**31), "valid": (100, 600)}
"""Range of the sequences that `episodes=N` draws; the parts' own lie outside."""


def check(part: str) -> None:
    """Raise unless there is such a part.

    Raises:
        ValueError: Its name is unknown; with the nearest ones.
    """
    if part not in PARTS:
        raise ValueError(unknown("part", part, PARTS))


def seeds(part: str, episodes: int | None, seed: int) -> list[int]:
    """Job sequences of a part: all of them, the first so many of `test`, else random ones."""
    if episodes is None:
        return list(SEEDS[part])
    if part == "test":
        return list(SEEDS[part])[:episodes]
    rng = np.random.default_rng([seed, PARTS.index(part)])
    low, high = DRAWN[part]
    if part == "valid":
        return rng.choice(np.arange(low, high), episodes, replace=False).tolist()
    return rng.integers(low, high, episodes).tolist()


def drawn(catalogue: Catalogue, seed: int, num_jobs: int, mean_interarrival_ms: float) -> Workload:
    """Jobs drawn uniformly from a catalogue, the first at 0, then a Poisson process."""
    rng = np.random.default_rng(seed)
    waits_ms = rng.exponential(mean_interarrival_ms, num_jobs - 1)
    arrival_ms = np.cumsum([0.0, *waits_ms])
    picked = rng.integers(len(catalogue.dags), size=num_jobs)
    return Workload(
        [
            Job(catalogue.dags[dag], float(time_ms))
            for dag, time_ms in zip(picked, arrival_ms, strict=True)
        ],
        catalogue,
    )


@cache
def synthetic() -> Catalogue:
    """The 100 seeded random graphs of the setting `synthetic`."""
    return Catalogue(
        [random_dag(np.random.default_rng([7, k]), name=f"random-{k:03d}") for k in range(100)]
    )


@cache
def alibaba() -> Catalogue:
    """The 1,000 seeded graphs of the setting `alibaba`."""
    return Catalogue(
        [alibaba_dag(np.random.default_rng([8, k]), name=f"alibaba-{k:03d}") for k in range(1000)]
    )


def own(path: Path, part: str | None = None, *, split: bool = False) -> Catalogue:
    """Graphs of a person's own file or folder, told apart by name and content.

    A folder with subfolders `train`, `valid`, `test` gives each part its own graphs.

    Args:
        path: The file or folder.
        part: `train`, `valid` or `test`; None for all graphs.
        split: Whether graphs without folders of parts are divided by content.

    Raises:
        NoneOfPart: There is no such part, or there are too few graphs for it.
        ValueError: A file cannot be read, or files lie beside folders of parts.
    """
    if part is None:
        return _own(path, folders.stamp(path))
    inner = folders.subfolder(path, part) if path.is_dir() else None
    if inner is not None or not split:
        return own(inner or path)
    return _share(path, folders.stamp(path), part)


def own_parts(path: Path) -> dict[str, frozenset[str]] | None:
    """Digests of each part's graphs, were they divided; None if there are folders of parts."""
    if folders.parts_of(path):
        return None
    return folders.by_content(dag.digest for dag in own(path).dags)


@lru_cache(maxsize=6)
def _share(path: Path, stamp: folders.Stamp, part: str) -> Catalogue:
    every = _own(path, stamp).dags
    mine = folders.by_content(dag.digest for dag in every)
    if not mine[part]:
        raise folders.too_few(path, "profiles", len(mine["test"]), part)
    return Catalogue([dag for dag in every if dag.digest in mine[part]])


@lru_cache(maxsize=4)
def _own(path: Path, stamp: folders.Stamp) -> Catalogue:
    """Read once as long as the stamp, files with times and sizes, stays the same."""
    from netllm_sims.cjs.job_files.loading import load_dags

    there = folders.parts_of(path)
    inner = [path / part for part in there if folders.subfolder(path, part)] if there else [path]
    return Catalogue([dag for one in inner for dag in load_dags(one)])
