"""Job sequences of the settings' parts, none of them in two."""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from netllm_sims._fields import unknown
from netllm_sims.cjs.generate import random_dag
from netllm_sims.cjs.jobs import Catalogue, Job, Workload

PARTS = ("train", "valid", "test")

SEEDS = {"train": range(1000, 1100), "valid": range(20, 30), "test": range(666, 686)}
"""Job sequences of a part as it stands; 666 is the published one."""

DRAWN = {"train": (10_000, 2**31), "valid": (100, 600)}
"""Range of the sequences that `episodes=N` draws; the parts' own lie outside."""


def check(part: str) -> None:
    """Refuse a part that is not there.

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


def own(path: Path) -> Catalogue:
    """Graphs of a person's own file or folder, told apart by name and content."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return _own(path, tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats))


@lru_cache(maxsize=4)
def _own(path: Path, stamp: tuple[tuple[Path, int, int], ...]) -> Catalogue:
    """Read once as long as the stamp, files with times and sizes, stays the same."""
    from netllm_sims.cjs.formats import load_dags

    return Catalogue(load_dags(path))
