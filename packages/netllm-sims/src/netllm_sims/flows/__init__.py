"""Flow classification: flows and their files, settings, metrics, a generator of traffic."""

from netllm_sims.flows import metrics
from netllm_sims.flows.flow_files import load_flows, write_flows
from netllm_sims.flows.limits import NONE
from netllm_sims.flows.rollout import Answers, Classified, HostDay, Policy, rollout
from netllm_sims.flows.settings import Setting, setting, settings
from netllm_sims.flows.synthetic_traffic import traffic
from netllm_sims.flows.table import Flows, joined

__all__ = [
    "NONE",
    "Answers",
    "Classified",
    "Flows",
    "HostDay",
    "Policy",
    "Setting",
    "joined",
    "load_flows",
    "metrics",
    "rollout",
    "setting",
    "settings",
    "traffic",
    "write_flows",
]
