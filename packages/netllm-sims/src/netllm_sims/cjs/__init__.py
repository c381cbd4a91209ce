"""Cluster job scheduling: jobs as graphs, the simulator, its settings and environments."""

from netllm_sims.cjs.alibaba_graphs import alibaba_dag
from netllm_sims.cjs.compiled_policies import Heuristic, fair, fifo
from netllm_sims.cjs.dag import LEVELS, Dag, Waves, build
from netllm_sims.cjs.env import Env
from netllm_sims.cjs.episodes import Episode, Replay, Sampled
from netllm_sims.cjs.fairness import alone_s, fairness
from netllm_sims.cjs.fixed_size_env import TableEnv
from netllm_sims.cjs.gantt import gantt
from netllm_sims.cjs.jobs import Catalogue, Job, Workload
from netllm_sims.cjs.observation import JOB_COLUMNS, STAGE_COLUMNS, Observation, observe
from netllm_sims.cjs.random_graphs import random_dag
from netllm_sims.cjs.rollout import Policy, Rollout, rollout
from netllm_sims.cjs.settings import Setting, setting, settings
from netllm_sims.cjs.simulator import Simulator
from netllm_sims.cjs.tpch import load_tpch, sequence

__all__ = [
    "JOB_COLUMNS",
    "LEVELS",
    "STAGE_COLUMNS",
    "Catalogue",
    "Dag",
    "Env",
    "Episode",
    "Heuristic",
    "Job",
    "Observation",
    "Policy",
    "Replay",
    "Rollout",
    "Sampled",
    "Setting",
    "Simulator",
    "TableEnv",
    "Waves",
    "Workload",
    "alibaba_dag",
    "alone_s",
    "build",
    "fair",
    "fairness",
    "fifo",
    "gantt",
    "load_tpch",
    "observe",
    "random_dag",
    "rollout",
    "sequence",
    "setting",
    "settings",
]
