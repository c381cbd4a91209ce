"""Networking heads: hidden states to valid answers."""

from netllm_heads.categorical import NO_LABEL, Categorical
from netllm_heads.pointer import Pointer
from netllm_heads.trajectory import Trajectory

__all__ = ["NO_LABEL", "Categorical", "Pointer", "Trajectory"]
