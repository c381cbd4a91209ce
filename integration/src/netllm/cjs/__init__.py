"""Cluster job scheduling; `task` is the whole task on one page, looked up on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm.cjs.task import CJS

__all__ = ["CJS"]


def __getattr__(name: str) -> Any:
    if name == "CJS":
        from netllm.cjs.task import CJS

        return CJS
    raise AttributeError(f"module 'netllm.cjs' has no attribute {name!r}")
