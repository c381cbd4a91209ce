"""The scheduling simulator: tasks and decisions per second and core, and their cost as jobs grow.

    python benchmarks/cjs_simulator.py [--quick] [--json FILE]

Whole episodes of `default` (job sequence 666) under compiled FIFO and Fair, set-up included, then
decisions with the full observation: of the simulator, of the gymnasium environment, and of a batch
of episodes at once. CPU time, the least of several runs, since other work may share the machine.
Profiles are the published ones if NETLLM_DATA names them, else seeded random graphs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium
import netllm_sims  # noqa: F401  makes the environment known to gymnasium
import numpy as np
from _timing import least_cpu_s
from netllm_adapt.processor import processor
from netllm_sims import cjs

PUBLIC_TASKS_PER_S = 180_000
"""Of the public simulator under FIFO, per core (ORACLES.md)."""

JOBS = (200, 500, 1000, 2000)


def compiled(policy: cjs.Heuristic, setting: cjs.Setting, times: int) -> dict[str, float]:
    (episode,) = setting.episodes("test", seeds=[666])

    simulator = cjs.Simulator(setting, episode)

    def run() -> None:
        simulator.reset()
        simulator.run(policy)

    seconds = least_cpu_s(run, times)
    return {
        "episode_s": seconds,
        "tasks_per_s": float(episode.jobs.tasks.sum()) / seconds,
        "decision_us": seconds / float(simulator.decisions) * 1e6,
        "jct_s": float(simulator.jct_s.mean()),
    }


def observed(setting: cjs.Setting, times: int) -> float:
    """Decisions per second of the simulator with an observation each, of Fair's recorded course."""
    (episode,) = setting.episodes("test", seeds=[666])
    actions = cjs.rollout(cjs.fair(), setting, [episode], record=True).actions[0].tolist()
    simulator = cjs.Simulator(setting, episode)

    def run() -> None:
        simulator.reset()
        for choice, executors in actions:
            simulator.step(choice, executors)
            simulator.observe()

    return len(actions) / least_cpu_s(run, times)


def environment(setting: cjs.Setting, times: int) -> float:
    env = gymnasium.make("netllm/CJS-v0", setting=setting, part="test", disable_env_checker=True)
    (episode,) = setting.episodes("test", episodes=1)
    actions = cjs.rollout(cjs.fair(), setting, [episode], record=True).actions[0].tolist()

    def run() -> None:
        env.reset(options={"episode": 0})
        for choice, executors in actions:
            env.step({"stage": choice, "executors": executors})

    return len(actions) / least_cpu_s(run, times)


class Watched:
    """Fair, asked through a batch's observation."""

    def __init__(self) -> None:
        self.inner = cjs.fair()

    def reset(self, seed: int) -> None:
        self.inner.reset(seed)

    def begin(self, simulators: list[cjs.Simulator]) -> None:
        self.inner.begin(simulators)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return self.inner.act(observation)


def batched(setting: cjs.Setting, batch: int, times: int) -> float:
    episodes = setting.episodes("test", episodes=batch)
    decisions = cjs.rollout(cjs.fair(), setting, episodes).decisions.sum()
    return float(decisions) / least_cpu_s(lambda: cjs.rollout(Watched(), setting, episodes), times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, fewer jobs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    times = 2 if args.quick else 7
    setting = cjs.setting("default")
    profiles = "synthetic" if setting.synthetic else "published"
    print(f"{profiles} profiles, {setting.num_executors} executors, one core")
    policies = {"fifo": cjs.fifo(), "fair": cjs.fair()}
    document: dict[str, Any] = {"cpu": processor(), "profiles": profiles}
    document["compiled"] = {name: compiled(p, setting, times) for name, p in policies.items()}
    for name, row in document["compiled"].items():
        print(
            f"{name:5} {row['tasks_per_s'] / 1e6:6.2f} million tasks/s "
            f"({row['tasks_per_s'] / PUBLIC_TASKS_PER_S:.0f} x the public simulator), "
            f"episode {row['episode_s']:.3f} s"
        )
    document["decisions_per_s"] = {
        "simulator": observed(setting, times),
        "environment": environment(setting, times),
        "batch of 8": batched(setting, 8, 1 if args.quick else 3),
    }
    for name, rate in document["decisions_per_s"].items():
        print(f"{name:12} {rate:8,.0f} decisions/s with full observations")
    document["by_jobs"] = {}
    for jobs in JOBS[:2] if args.quick else JOBS:
        more = cjs.setting("default", num_jobs=jobs)
        row = {
            "compiled_us": compiled(cjs.fair(), more, 2)["decision_us"],
            "observed_us": 1e6 / observed(more, 1 if args.quick else 2),
        }
        document["by_jobs"][jobs] = row
        print(
            f"{jobs:5} jobs: {row['compiled_us']:5.1f} us per decision compiled, events included; "
            f"{row['observed_us']:5.1f} with the observation"
        )
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
