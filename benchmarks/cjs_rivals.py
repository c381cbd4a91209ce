"""Mean job completion time of the CJS rivals, at 50 and 30 executors.

    python benchmarks/cjs_rivals.py [--quick] [--seeds N ...] [--lucks N] [--policies NAME ...]
        [--json FILE]

Every policy meets the same job sequences and the same luck of the tasks' durations. The public
Decima's mean over 5 lucks of sequence 666 is 55.68 s with a deviation of 0.25 s: `--seeds 666
--lucks 20 --policies decima` must come within 3 * 0.25 * sqrt(1/5 + 1/20) = 0.38 s of it.
Without NETLLM_DATA jobs are generated, and who needs weights from there is left out with a note,
unless named.
"""

import argparse
import json
from pathlib import Path

from netllm import Policy, registry
from netllm_sims import cjs

POLICIES = (
    "random", "fifo", "fair", "true-fifo", "srw", "critical-path", "weighted-fair", "decima",
    "decima-greedy", "decima-ours", "tuned-share",
)  # fmt: skip


def mean_jct_s(policy: Policy, setting: cjs.Setting, seeds: list[int], lucks: int) -> float:
    """Mean over sequences and lucks."""
    episodes = [
        cjs.Episode(id=f"{seed}-{luck}", seed=seed, jobs=jobs, durations=cjs.Sampled(luck))
        for seed in seeds
        for jobs in [setting.workload(seed)]
        for luck in range(lucks)
    ]
    return float(cjs.rollout(policy, setting, episodes).jct_s.mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one sequence, one luck")
    parser.add_argument("--seeds", type=int, nargs="+", default=[666, 1, 2])
    parser.add_argument("--lucks", type=int, default=3)
    parser.add_argument("--policies", nargs="+", default=(), metavar="NAME")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    seeds, lucks = (chosen.seeds[:1], 1) if chosen.quick else (chosen.seeds, chosen.lucks)
    settings = [cjs.setting("default", num_executors=executors) for executors in (50, 30)]
    print("| policy | 50 executors | 30 executors |\n|---|---|---|")
    means: dict[str, dict[int, float]] = {}
    for name in chosen.policies or POLICIES:
        try:
            policies = [registry.policy("cjs", name, setting) for setting in settings]
        except registry.Unbuildable as error:
            if chosen.policies:
                raise
            print(f"| `{name}` | left out: {error.reason} | |", flush=True)
            continue
        means[name] = {
            setting.num_executors: mean_jct_s(policy, setting, seeds, lucks)
            for policy, setting in zip(policies, settings, strict=True)
        }
        print(f"| `{name}` | {means[name][50]:.2f} | {means[name][30]:.2f} |", flush=True)
        if chosen.json:
            result = {"seeds": seeds, "lucks": lucks, "mean_jct_s": means}
            chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    best = min(means, key=lambda name: means[name][50])
    print(
        f"least mean job completion time of {len(means)} policies at 50 executors: "
        f"{best}, {means[best][50]:.2f} s, over {len(seeds)} sequences x {lucks} lucks"
    )


if __name__ == "__main__":
    main()
