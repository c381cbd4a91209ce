"""The congestion simulator: decisions per second and core, in batches and in the environment.

    python benchmarks/cc_simulator.py [--quick] [--json FILE]

Whole episodes, `reset` included, with random factors; every decision brings its reward and the full
observation in float32. CPU time, the least of several runs, since other work may share the machine.
The links are training links of `default` and `two-flows`, whose traces are recorded ones too if
NETLLM_DATA names them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gymnasium
import netllm_sims  # noqa: F401  makes the environment known to gymnasium
import numpy as np
from _timing import least_cpu_s
from netllm_adapt.processor import processor
from netllm_sims import cc


def simulator(setting: cc.Setting, batch: int, times: int) -> float:
    played = cc.Simulator(setting.links("train", episodes=batch), setting.intervals)
    shape = (setting.intervals, batch)
    factors = np.random.default_rng(0).integers(len(cc.FACTORS), size=shape)

    def episode() -> None:
        played.reset()
        for chosen in factors:
            played.step(chosen)

    return factors.size / least_cpu_s(episode, times)


def environment(setting: cc.Setting, times: int) -> float:
    env = gymnasium.make("netllm/CC-v0", setting=setting, part="test")
    factors = np.random.default_rng(0).integers(len(cc.FACTORS), size=setting.intervals)

    def episode() -> None:
        env.reset(options={"link": 0})
        for chosen in factors:
            env.step(chosen)

    return factors.size / least_cpu_s(episode, times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    times = 2 if args.quick else 10
    alone, together = cc.setting("default"), cc.setting("two-flows")
    rows = {f"simulator, batch {n}": simulator(alone, n, times) for n in (64, 1024)}
    rows["simulator, two flows, batch 1024"] = simulator(together, 1024, times)
    rows["environment"] = environment(alone, times)
    traces = "generated" if alone.synthetic else "generated and recorded"
    print(f"{traces} capacity, {alone.intervals} intervals, one core")
    print(f"{'':34} decisions per CPU second")
    for name, rate in rows.items():
        print(f"{name:34} {rate:23,.0f}")
    if args.json:
        document = {"cpu": processor(), "traces": traces, "decisions_per_s": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
