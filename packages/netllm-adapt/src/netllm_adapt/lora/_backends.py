"""The ways to compute the operation, and which of them serves an input."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from netllm_adapt.lora import _reference, _torch, _triton

_log = logging.getLogger(__name__)


class Forward(Protocol):
    """``seed`` is a number whenever ``dropout`` is above zero."""

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        dropout: float,
        seed: int | None,
        /,
    ) -> tuple[Tensor, Tensor]:
        """The output, and ``S = scale·x̂·Aᵀ``, (rows of x, rank), both of x's dtype."""


class Backward(Protocol):
    """``small`` is the forward pass's S."""

    def __call__(
        self,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        a: Tensor,
        b: Tensor,
        small: Tensor,
        scale: float,
        dropout: float,
        seed: int | None,
        needs: Sequence[bool],
        /,
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, bias, a and b, None where ``needs`` says False."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to compute ``lora_linear``; neither pass knows of autograd."""

    name: str
    forward: Forward
    backward: Backward
    covers: Callable[[Tensor, Tensor, Tensor], bool]
    """Whether it can, and should, take this ``x``, ``weight`` and ``a``."""


_backends: dict[str, Backend] = {}
_forced: ContextVar[str | None] = ContextVar("netllm_lora_backend", default=None)


def register_backend(backend: Backend) -> None:
    """Add a back end; of those that cover an input the last one registered is chosen."""
    _backends[backend.name] = backend


def _floating(x: Tensor, weight: Tensor, a: Tensor) -> bool:
    return x.is_floating_point()


register_backend(
    Backend(
        name="reference",
        forward=_reference.forward,
        backward=_reference.backward,
        covers=_floating,
    )
)
TORCH = Backend(name="torch", forward=_torch.forward, backward=_torch.backward, covers=_floating)
register_backend(TORCH)
register_backend(
    Backend(
        name="triton", forward=_triton.forward, backward=_triton.backward, covers=_triton.covers
    )
)


def _known(name: str) -> str:
    if name not in _backends:
        raise ValueError(f"The back end must be one of {', '.join(_backends)}, got {name!r}.")
    return name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute every operation of this context by the back end ``name``.

    The variable NETLLM_LORA_BACKEND does the same for a whole process.

    Raises:
        ValueError: If no back end has that name.
    """
    token = _forced.set(_known(name))
    try:
        yield
    finally:
        _forced.reset(token)


def backend_for(x: Tensor, weight: Tensor, a: Tensor) -> Backend:
    """The back end that serves these inputs; each new choice is logged once.

    Raises:
        ValueError: If none does, or NETLLM_LORA_BACKEND names none.
    """
    name = _forced.get() or os.environ.get("NETLLM_LORA_BACKEND")
    if name:
        return _backends[_known(name)]
    for backend in reversed(_backends.values()):
        if backend.covers(x, weight, a):
            _note(backend.name, x.dtype, x.device.type)
            return backend
    raise ValueError(f"No back end of lora_linear covers {x.dtype} on {x.device}.")


def chosen(x: Tensor, weight: Tensor, a: Tensor) -> str:
    """The name of the back end that ``lora_linear`` would take for these inputs here and now."""
    return backend_for(x, weight, a).name


@cache
def _note(name: str, dtype: torch.dtype, device: str) -> None:
    _log.info("lora_linear: back end %r serves %s on %s.", name, dtype, device)
