"""The published TPC-H profiles, and sequences of jobs drawn from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from netllm_sims.cjs.dag import Dag, Waves, build, of
from netllm_sims.cjs.jobs import Catalogue, Job, Workload
from netllm_sims.files.json_reading import read_json

SIZES = ("2g", "5g", "10g", "20g", "50g", "80g", "100g")
QUERIES = 22
MEAN_INTERARRIVAL_MS = 1 / 4e-5

_DAMAGES = (
    AttributeError,
    KeyError,
    TypeError,
    StopIteration,
)
"""What reading raises where the JSON of a file is not what it should be."""


@cache
def load_tpch(file: Path) -> Catalogue:
    """All 154 profiles, by size, then by query.

    Args:
        file: `tpch.json.gz`: size → query → `edges` and per stage `fresh_durations`,
            `first_wave`, `rest_wave` as ordered `[executors, [ms, …]]` pairs.

    Raises:
        ValueError: Not such a file, or `Dag` finds a fault.

    Source: profiles of decima-sim, as NetLLM's spark_sched_sim prepares them.
    """
    try:
        sizes = read_json(file)
        with of(file):
            return Catalogue(
                [_profile(size, query, sizes[size][str(query)]) for size, query in _names()]
            )
    except _DAMAGES as fault:
        raise ValueError(
            f"{file}: must be the published profiles as gzipped JSON (size, query, stages), got "
            f"{type(fault).__name__}: {fault}. Restore the file."
        ) from fault


def _names() -> list[tuple[str, int]]:
    return [(size, query) for size in SIZES for query in range(1, QUERIES + 1)]


def _profile(size: str, query: int, entry: dict[str, Any]) -> Dag:
    stages = [
        prepare(*({int(key): values for key, values in stage[wave]} for wave in _WAVES))
        for stage in entry["stages"]
    ]
    return build(f"tpch-{size}-{query}", stages, entry["edges"])


_WAVES = ("fresh_durations", "first_wave", "rest_wave")


def prepare(
    fresh: Mapping[int, Sequence[float]],
    first: Mapping[int, Sequence[float]],
    rest: Mapping[int, Sequence[float]],
) -> Waves:
    """A stage as the reference prepares it.

    The number of tasks is that of the first recorded number of executors. Fresh durations are taken
    out of the first wave; a first wave that is then empty becomes that of the next smaller number.

    Args:
        fresh: Durations in ms of tasks on executors that had just come, by number of executors.
        first: Those of the first wave, the fresh ones among them.
        rest: Those of the later waves.
    """
    key = next(iter(first))
    cleaned: dict[int, list[float]] = {}
    for executors, durations in first.items():
        known = Counter(fresh[executors])
        kept = []
        for duration in durations:
            if known[duration] > 0:
                known[duration] -= 1
            else:
                kept.append(duration)
        cleaned[executors] = kept
    smaller: list[float] = []
    for executors in sorted(cleaned):
        cleaned[executors] = smaller = cleaned[executors] or smaller
    return Waves(tasks=len(first[key]) + len(rest[key]), fresh=fresh, first=cleaned, rest=rest)


def sequence(
    catalogue: Catalogue,
    seed: int,
    num_jobs: int,
    mean_interarrival_ms: float = MEAN_INTERARRIVAL_MS,
) -> Workload:
    """Jobs of random queries and sizes, the first at 0, then a Poisson process.

    The draws are those of the reference, whose environment draws from
    `numpy.random.default_rng(seed)`.

    Args:
        catalogue: The profiles of `load_tpch`.
        seed: Of the sequence.
        num_jobs: Number of jobs.
        mean_interarrival_ms: Mean time between two arrivals.
    """
    rng = np.random.default_rng(seed)
    jobs, arrival_ms = [], 0.0
    for _ in range(num_jobs):
        query = int(rng.integers(QUERIES))
        size = SIZES.index(str(rng.choice(SIZES)))
        jobs.append(Job(catalogue.dags[size * QUERIES + query], arrival_ms))
        arrival_ms += float(rng.exponential(mean_interarrival_ms))
    return Workload(jobs, catalogue)
