"""Adaptive bitrate streaming; `task` is the whole task on one page."""

from netllm.abr.task import ABR

__all__ = ["ABR"]
