"""The streaming simulator: chunks per second and core, in batches and one environment at a time.

    python benchmarks/simulator.py [--quick] [--json FILE]

Whole episodes, `reset` included, with random levels; every chunk brings its reward and the full
observation in float32. CPU time, the least of several runs, since other work may share the machine.
The traces are the training traces of `default`: real ones if NETLLM_DATA names them.
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
from netllm_sims.abr import Setting, Simulator, VectorEnv, setting


def simulator(config: Setting, batch: int, times: int) -> float:
    played = Simulator(config, config.sessions("train", episodes=batch))
    levels = np.random.default_rng(0).integers(config.video.levels, size=(config.chunks - 1, batch))

    def episode() -> None:
        played.reset()
        for level in levels:
            played.step(level)

    return config.chunks * batch / least_cpu_s(episode, times)


def vector_env(config: Setting, batch: int, times: int) -> float:
    env = VectorEnv(config, "train", batch, scale=(0.6, 1.6))
    env.reset()
    levels = np.random.default_rng(0).integers(config.video.levels, size=(config.chunks - 1, batch))

    def episode() -> None:
        for level in levels:
            env.step(level)

    return (config.chunks - 1) * batch / least_cpu_s(episode, times)


def single_env(config: Setting, episodes: int, times: int) -> float:
    env = gymnasium.make("netllm/ABR-v0", setting=config, part="train")
    levels = np.random.default_rng(0).integers(config.video.levels, size=config.chunks - 1)

    def run() -> None:
        for _ in range(episodes):
            env.reset()
            for level in levels:
                env.step(level)

    return len(levels) * episodes / least_cpu_s(run, times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config, times = setting("default"), 3 if args.quick else 20
    rows = {f"simulator, batch {n}": simulator(config, n, times) for n in (1024, 4096)}
    rows["vector environment, batch 1024"] = vector_env(config, 1024, times)
    rows["single environment"] = single_env(config, 50 if args.quick else 200, min(times, 5))
    traces = "synthetic" if config.synthetic else "real"
    print(f"{traces} traces, {config.chunks} chunks, {config.video.levels} levels, one core")
    print(f"{'':34} chunks per CPU second")
    for name, rate in rows.items():
        print(f"{name:34} {rate:20,.0f}")
    if args.json:
        document = {"cpu": processor(), "traces": traces, "chunks_per_s": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    print(
        f"simulator: {rows['simulator, batch 1024'] / 1e6:.1f} million chunks/s per core "
        f"in batches of 1,024, {rows['single environment']:,.0f} steps/s in one environment"
    )


if __name__ == "__main__":
    main()
