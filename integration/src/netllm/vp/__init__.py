"""Viewport prediction; `task` is the whole task on one page."""

from netllm.vp.task import VP

__all__ = ["VP"]
