"""Seeded graphs with the published statistics of Alibaba's batch jobs."""

import numpy as np

from netllm_sims.cjs.dag import Dag, Waves, build

STAGES = (
    (0.0, 0.3833, 0.5874, 0.715, 0.7847, 0.8385, 0.8716, 0.9069, 0.9487, 0.979, 0.9909, 1.0),
    (0, 1, 2, 3, 4, 5, 6, 7, 10, 15, 20, 36),
)
"""Share of the jobs that have at most so many stages; the last in a thousand are cut off."""
INSTANCES = (
    (0.0, 0.6617, 0.7411, 0.776, 0.7997, 0.8194, 0.9, 0.95, 0.98, 1.0),
    (0, 1, 3, 5, 7, 10, 46, 175, 444, 844),
)
"""Share of the stages that have at most so many tasks; the last hundredth is cut off."""
DURATION_S = (
    (0.0, 0.0768, 0.2415, 0.3123, 0.3962, 0.4666, 0.5094, 0.637, 0.75, 0.9, 0.95, 0.98, 1.0),
    (0, 0, 1, 2, 3, 4, 5, 10, 21, 96, 227, 412, 603),
)
"""Share of the stages that take at most so many seconds; the last hundredth is cut off."""
ON_PATH = (
    (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 36),
    (0.977, 0.874, 0.788, 0.674, 0.629, 0.557, 0.465, 0.416, 0.375, 0.34, 0.2),
)
"""By number of stages: how many of those after the first lie on the longest path, as a share."""


def alibaba_dag(rng: np.random.Generator, *, name: str = "alibaba") -> Dag:
    """A graph as Alibaba's batch jobs are: mostly small chains and trees, some tasks in hundreds.

    Numbers of stages, tasks of a stage and durations are drawn from `STAGES`, `INSTANCES` and
    `DURATION_S`, between whose steps they are linear, without regard to one another. Of n stages
    1 + binomial(n - 1, `ON_PATH`) form the longest path; the others stand beside any of it but the
    last. Each stage before the last level leads to one of the next level, and each after the first
    waits for at least one. As in the trace, all tasks of a stage last equally long.

    Args:
        rng: Source of all draws.
        name: Name of the profile.

    Source: distributions of 2.86 million jobs and 9.67 million tasks of cluster-trace-v2018, as
        published with Tian, Zheng & Wang: Characterizing and Synthesizing Task Dependencies of
        Data-Parallel Jobs in Alibaba Cloud, SoCC 2019 (github.com/All-less/trace-generator).
        Ours is how stages are joined, so that graphs are trees in the main, as the paper finds.
    """
    count = int(np.ceil(_drawn(rng, STAGES)))
    depth = 1 + int(rng.binomial(count - 1, np.interp(count, *ON_PATH)))
    beside = rng.integers(max(1, depth - 1), size=count - depth)
    levels = np.sort(np.concatenate([np.arange(depth), beside]))
    edges = []
    for child in range(count):
        parents = np.flatnonzero(levels == levels[child] - 1)
        if len(parents):
            edges.append((int(rng.choice(parents)), child))
    leading = {parent for parent, _ in edges}
    for parent in range(count):
        children = np.flatnonzero(levels == levels[parent] + 1)
        if len(children) and parent not in leading:
            edges.append((parent, int(rng.choice(children))))
    return build(name, [_stage(rng) for _ in range(count)], edges)


def _stage(rng: np.random.Generator) -> Waves:
    tasks = int(np.ceil(_drawn(rng, INSTANCES)))
    return Waves.same(tasks, [round(_drawn(rng, DURATION_S), 3) * 1e3])


def _drawn(rng: np.random.Generator, quantiles: tuple[tuple[float, ...], tuple[int, ...]]) -> float:
    """A number with these quantiles, above the first of them."""
    return float(np.interp(1 - rng.random(), *quantiles))
