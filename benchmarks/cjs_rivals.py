"""Mean job completion time of the rule-based CJS rivals, at 50 and 30 executors.

python benchmarks/cjs_rivals.py [--seeds N ...] [--lucks N]

Every policy meets the same job sequences and the same luck of the tasks' durations.
"""

import argparse
from importlib.metadata import entry_points

from netllm_sims import cjs

POLICIES = ("random", "fifo", "fair", "true-fifo", "srw", "critical-path", "weighted-fair")


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
    chosen = parser.parse_args()
    print("| policy | 50 executors | 30 executors |\n|---|---|---|")
    for name in (*POLICIES, "tuned-share"):
        cells = [mean_jct_s(name, e, chosen.seeds, chosen.lucks) for e in (50, 30)]
        print(f"| `{name}` | {cells[0]:.2f} | {cells[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
