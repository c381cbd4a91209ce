"""A head that points at one of any number of stages, and then says how many executors it gets."""

from netllm_heads.pointer.head import Pointer

__all__ = ["Pointer"]
