"""Congestion control; `task` is the whole task on one page."""

from netllm.cc.task import CC

__all__ = ["CC"]
