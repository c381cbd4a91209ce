"""An encoder of jobs that are graphs of stages."""

from netllm_encoders.graph.encoder import Graph

__all__ = ["Graph"]
