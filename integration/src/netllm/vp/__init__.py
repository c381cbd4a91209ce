"""Viewport prediction; `task` is the whole task on one page, looked up on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm.vp.task import VP

__all__ = ["VP"]


def __getattr__(name: str) -> Any:
    if name == "VP":
        from netllm.vp.task import VP

        return VP
    raise AttributeError(f"module 'netllm.vp' has no attribute {name!r}")
