"""How alike a cluster treats its jobs: slowdowns over the time alone, and Jain's index of them."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.cjs.compiled_policies import fair
from netllm_sims.cjs.episodes import Episode, Replay, Sampled
from netllm_sims.cjs.jobs import Job
from netllm_sims.cjs.simulator import Simulator

if TYPE_CHECKING:
    from netllm_sims.cjs.settings import Setting


def alone_s(setting: "Setting", episode: Episode) -> Float[ndarray, "job"]:
    """Completion time in s of each job if it had the whole cluster for itself, under Fair.

    All jobs are run once more, the next one long after the one before is finished, so that every
    task has the draws that it has in the episode. Where its durations were recorded in order of
    their starts, they are drawn from the profiles instead.
    """
    waits_ms = [_longest_ms(setting, job) for job in episode.jobs.jobs[:-1]]
    apart = episode.jobs.at(np.cumsum([0.0, *waits_ms]))
    durations = Sampled() if isinstance(episode.durations, Replay) else episode.durations
    simulator = Simulator(setting, replace(episode, jobs=apart, durations=durations))
    simulator.run(fair())
    return simulator.jct_s


def _longest_ms(setting: "Setting", job: Job) -> float:
    """More than a job can take alone: one task after another, with a move before every stage."""
    dag = job.dag
    task_ms = (float(dag.durations_ms.max()) + setting.warmup_ms) * setting.slow_factor
    return float(dag.tasks.sum()) * task_ms + (dag.stages + 1) * setting.moving_ms


def fairness(simulator: Simulator) -> float:
    """Jain's index of the slowdowns of a finished episode's jobs, see `jains_index`."""
    return jains_index(simulator.jct_s, alone_s(simulator.setting, simulator.episode))


def jains_index(jct_s: Float[ndarray, "job"], alone: Float[ndarray, "job"]) -> float:
    """How alike jobs are slowed down, 1 if all are slowed down alike; not by how much.

    A slowdown is a job's completion time over the one that it would have alone (`alone_s`); with n
    jobs the index (Σ x)² / (n Σ x²) lies between 1/n and 1.

    Source: Jain, Chiu & Hawe: A Quantitative Measure of Fairness and Discrimination for Resource
        Allocation in Shared Computer Systems, DEC-TR-301, 1984.
    """
    slowdown = np.divide(jct_s, alone, out=np.ones_like(jct_s), where=alone > 0)
    return float(slowdown.sum() ** 2 / (len(slowdown) * (slowdown**2).sum()))
