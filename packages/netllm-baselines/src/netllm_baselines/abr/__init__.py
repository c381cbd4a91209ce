"""Rivals in adaptive bitrate streaming, all behind the `Policy` protocol of `netllm_sims.abr`.

Each is built with a setting: `MPC(setting("default"))`. Modules load when their policy is first
named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_baselines.abr.bba import BBA
    from netllm_baselines.abr.bola import Bola
    from netllm_baselines.abr.comyco import Comyco
    from netllm_baselines.abr.dashjs import Dynamic, Throughput
    from netllm_baselines.abr.fugu import Fugu
    from netllm_baselines.abr.genet import (
        UDR1,
        UDR2,
        UDR3,
        Genet,
        GenetGreedy,
        UDR1Greedy,
        UDR2Greedy,
        UDR3Greedy,
        UDRReal,
        UDRRealGreedy,
    )
    from netllm_baselines.abr.hindsight import Hindsight
    from netllm_baselines.abr.l2a import L2A
    from netllm_baselines.abr.lol_plus import LoLPlus
    from netllm_baselines.abr.mpc import MPC
    from netllm_baselines.abr.mpc_paper import MPCPaper
    from netllm_baselines.abr.panda import Panda
    from netllm_baselines.abr.ppo import PPO, PPOSampled, PPOWide, PPOWideSampled
    from netllm_baselines.abr.random import Random
    from netllm_baselines.abr.soda import Soda
    from netllm_baselines.abr.steady import Steady

_MODULES = {
    "BBA": "bba",
    "Bola": "bola",
    "Comyco": "comyco",
    "Dynamic": "dashjs",
    "Fugu": "fugu",
    "Genet": "genet",
    "GenetGreedy": "genet",
    "Hindsight": "hindsight",
    "L2A": "l2a",
    "LoLPlus": "lol_plus",
    "MPC": "mpc",
    "MPCPaper": "mpc_paper",
    "PPO": "ppo",
    "PPOSampled": "ppo",
    "PPOWide": "ppo",
    "PPOWideSampled": "ppo",
    "Panda": "panda",
    "Random": "random",
    "Soda": "soda",
    "Steady": "steady",
    "Throughput": "dashjs",
    "UDR1": "genet",
    "UDR1Greedy": "genet",
    "UDR2": "genet",
    "UDR2Greedy": "genet",
    "UDR3": "genet",
    "UDR3Greedy": "genet",
    "UDRReal": "genet",
    "UDRRealGreedy": "genet",
}

__all__ = [
    "BBA",
    "L2A",
    "MPC",
    "PPO",
    "UDR1",
    "UDR2",
    "UDR3",
    "Bola",
    "Comyco",
    "Dynamic",
    "Fugu",
    "Genet",
    "GenetGreedy",
    "Hindsight",
    "LoLPlus",
    "MPCPaper",
    "PPOSampled",
    "PPOWide",
    "PPOWideSampled",
    "Panda",
    "Random",
    "Soda",
    "Steady",
    "Throughput",
    "UDR1Greedy",
    "UDR2Greedy",
    "UDR3Greedy",
    "UDRReal",
    "UDRRealGreedy",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
