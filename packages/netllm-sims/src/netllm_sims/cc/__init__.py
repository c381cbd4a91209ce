"""Congestion control: links, the simulator, its settings and environment."""

from netllm_sims.cc.capacity import KINDS, generate
from netllm_sims.cc.env import Env
from netllm_sims.cc.links import Link
from netllm_sims.cc.rollout import Policy, Senders, rollout
from netllm_sims.cc.settings import Setting, setting, settings
from netllm_sims.cc.simulator import FACTORS, HISTORY, UNLIMITED, Observation, Simulator, nearest
from netllm_sims.cc.utility import utility

__all__ = [
    "FACTORS",
    "HISTORY",
    "KINDS",
    "UNLIMITED",
    "Env",
    "Link",
    "Observation",
    "Policy",
    "Senders",
    "Setting",
    "Simulator",
    "generate",
    "nearest",
    "rollout",
    "setting",
    "settings",
    "utility",
]
