"""Adaptive bitrate streaming: traces, videos, the simulator, its settings and environments."""

from netllm_sims.abr.cellular import CELLULAR, cellular_trace
from netllm_sims.abr.env import Env
from netllm_sims.abr.link import capacity_bytes, curve, curves, delivery_s
from netllm_sims.abr.p1203 import p1203
from netllm_sims.abr.qoe import QUALITIES, QoE
from netllm_sims.abr.rollout import Policy, Rollout, rollout
from netllm_sims.abr.sessions import Session
from netllm_sims.abr.settings import Setting, setting, settings
from netllm_sims.abr.simulator import HISTORY, Observation, Simulator
from netllm_sims.abr.synthetic import GENET_RANGES, genet_trace, markov_trace, vbr_video
from netllm_sims.abr.trace_augmentation import alter
from netllm_sims.abr.trace_statistics import TraceStatistics, trace_statistics
from netllm_sims.abr.traces import Trace, load_trace, load_traces
from netllm_sims.abr.vector_env import VectorEnv
from netllm_sims.abr.video import LADDER_KBPS, Video, load_video
from netllm_sims.abr.worlds import Worlds, randomise

__all__ = [
    "CELLULAR",
    "GENET_RANGES",
    "HISTORY",
    "LADDER_KBPS",
    "QUALITIES",
    "Env",
    "Observation",
    "Policy",
    "QoE",
    "Rollout",
    "Session",
    "Setting",
    "Simulator",
    "Trace",
    "TraceStatistics",
    "VectorEnv",
    "Video",
    "Worlds",
    "alter",
    "capacity_bytes",
    "cellular_trace",
    "curve",
    "curves",
    "delivery_s",
    "genet_trace",
    "load_trace",
    "load_traces",
    "load_video",
    "markov_trace",
    "p1203",
    "randomise",
    "rollout",
    "setting",
    "settings",
    "trace_statistics",
    "vbr_video",
]
