"""Cluster job scheduling; `task` is the whole task on one page."""

from netllm.cjs.task import CJS

__all__ = ["CJS"]
