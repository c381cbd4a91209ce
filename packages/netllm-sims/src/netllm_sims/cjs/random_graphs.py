"""Seeded random graphs, for work without recorded profiles."""

import numpy as np

from netllm_sims.cjs.dag import LEVELS, Dag, Waves, build


def random_dag(
    rng: np.random.Generator, *, name: str = "random", max_stages: int = 18, mean_tasks: float = 40
) -> Dag:
    """A graph of 2 to `max_stages` stages, most with one or two parents.

    Tasks per stage are log-normal around a few, with the given mean; a stage's typical duration is
    log-normal around 1.5 s. The first wave takes longer than the rest, a fresh executor longer
    still, and durations grow by a fifth from 5 to 100 executors, as in the TPC-H profiles.

    Args:
        rng: Source of all draws.
        name: Name of the profile.
        max_stages: Most stages, at least 2.
        mean_tasks: Mean number of tasks of a stage.

    Raises:
        ValueError: `max_stages` below 2 or `mean_tasks` below 1.
    """
    if max_stages < 2 or mean_tasks < 1:
        raise ValueError(
            f"`max_stages` must be at least 2 and `mean_tasks` at least 1, got {max_stages} and "
            f"{mean_tasks}."
        )
    count = int(rng.integers(2, max_stages + 1))
    edges = []
    for child in range(1, count):
        parents = min(child, int(rng.choice(3, p=(0.15, 0.6, 0.25))))
        for parent in sorted(rng.choice(child, parents, replace=False).tolist()):
            edges.append((parent, child))
    spread = 1.5
    tasks = rng.lognormal(np.log(mean_tasks) - spread**2 / 2, spread, count)
    return build(name, [_stage(rng, max(1, round(float(n)))) for n in tasks], edges)


def _stage(rng: np.random.Generator, tasks: int) -> Waves:
    typical_ms = float(rng.lognormal(np.log(1500), 0.6))
    lists: list[dict[int, list[float]]] = []
    for factor in (2.0, 1.3, 1.0):
        lists.append(
            {
                level: np.round(
                    typical_ms * factor * (1 + level / 500) * rng.lognormal(0, 0.2, 12), 1
                ).tolist()
                for level in LEVELS
            }
        )
    fresh, first, rest = lists
    return Waves(tasks=tasks, fresh=fresh, first=first, rest=rest)
