"""Mean job completion time of the CJS rivals, at 50 and 30 executors.

python benchmarks/cjs_rivals.py [--seeds N ...] [--lucks N] [--policies NAME ...]

Every policy meets the same job sequences and the same luck of the tasks' durations. The public
Decima's mean over 5 lucks of sequence 666 is 55.68 s with a deviation of 0.25 s: `--seeds 666
--lucks 20 --policies decima` must come within 3 * 0.25 * sqrt(1/5 + 1/20) = 0.38 s of it.
"""

import argparse
from importlib.metadata import entry_points

from netllm_sims import cjs

POLICIES = (
    "random", "fifo", "fair", "true-fifo", "srw", "critical-path", "weighted-fair", "decima",
    "decima-greedy", "decima-ours", "tuned-share",
)  # fmt: skip


def mean_jct_s(name: str, executors: int, seeds: list[int], lucks: int) -> float:
    """Mean over sequences and lucks."""
    setting = cjs.setting("default", num_executors=executors)
    (point,) = entry_points(group="netllm.policies", name=f"cjs.{name}")
    episodes = [
        cjs.Episode(id=f"{seed}-{luck}", seed=seed, jobs=jobs, durations=cjs.Sampled(luck))
        for seed in seeds
        for jobs in [setting.workload(seed)]
        for luck in range(lucks)
    ]
    return float(cjs.rollout(point.load()(setting), setting, episodes).jct_s.mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[666, 1, 2])
    parser.add_argument("--lucks", type=int, default=3)
    parser.add_argument("--policies", nargs="+", default=POLICIES, metavar="NAME")
    chosen = parser.parse_args()
    print("| policy | 50 executors | 30 executors |\n|---|---|---|")
    for name in chosen.policies:
        cells = [mean_jct_s(name, e, chosen.seeds, chosen.lucks) for e in (50, 30)]
        print(f"| `{name}` | {cells[0]:.2f} | {cells[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
