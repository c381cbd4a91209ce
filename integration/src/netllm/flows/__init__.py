"""Flow classification; `task` is the whole task on one page."""

from netllm.flows.task import Flows

__all__ = ["Flows"]
