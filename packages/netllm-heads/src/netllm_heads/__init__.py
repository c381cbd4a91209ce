"""Networking heads: hidden states to valid answers."""

from netllm_heads.categorical import NO_LABEL, Categorical

__all__ = ["NO_LABEL", "Categorical"]
