"""Adapted models: an encoder, a frozen backbone with low-rank matrices, a head."""

from netllm_adapt.model import decider, predictor

__all__ = ["decider", "predictor"]
