from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from netllm_adapt.lora import _reference, _torch
from netllm_adapt.lora._dropout import draw_seed


class Kernel(Protocol):
    """What a back end computes; ``seed`` is a number whenever ``dropout`` is above zero."""

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
    ) -> Tensor:
        """``x·Wᵀ + b + scale·(x̂·Aᵀ)·Bᵀ``."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to compute ``lora_linear``."""

    name: str
    run: Kernel
    covers: Callable[[Tensor], bool]
    """Whether it can, and should, take an input of this device and dtype."""


_backends: dict[str, Backend] = {}
_forced: ContextVar[str | None] = ContextVar("netllm_lora_backend", default=None)


def register_backend(backend: Backend) -> None:
    """Add a back end; of those that cover an input the last one registered is chosen."""
    _backends[backend.name] = backend


register_backend(
    Backend(name="reference", run=_reference.lora_linear, covers=lambda x: x.is_floating_point())
)
register_backend(
    Backend(name="torch", run=_torch.lora_linear, covers=lambda x: x.is_floating_point())
)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute every ``lora_linear`` of this context by the back end ``name``.

    Raises:
        ValueError: If no back end has that name.
    """
    if name not in _backends:
        raise ValueError(f"The back end must be one of {', '.join(_backends)}, got {name!r}.")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def _choose(x: Tensor) -> Backend:
    if (name := _forced.get()) is not None:
        return _backends[name]
    for backend in reversed(_backends.values()):
        if backend.covers(x):
            return backend
    raise ValueError(f"No back end of lora_linear covers {x.dtype} on {x.device}.")


def lora_linear(
    x: Float[Tensor, "*batch inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
    a: Float[Tensor, "rank inputs"],
    b: Float[Tensor, "outputs rank"],
    scale: float,
    *,
    dropout: float = 0.0,
    seed: int | None = None,
    adapter_ids: Int[Tensor, " rows"] | None = None,
) -> Float[Tensor, "*batch outputs"]:
    """The frozen layer plus its low-rank part: ``x·Wᵀ + bias + scale·(x̂·Aᵀ)·Bᵀ``, x̂ = dropout(x).

    ``a`` and ``b`` may be of another dtype than ``x``: they are cast to its, never ``x`` to
    theirs, and their gradients come in their own.

    Args:
        x: Of the dtype of ``weight``.
        weight: Of the frozen layer; it gets a gradient if it asks for one.
        bias: Of the frozen layer.
        a: Shrinks to the rank.
        b: Expands from it.
        scale: Of the low-rank part: alpha / rank.
        dropout: Share of ``x`` dropped before the low-rank part only.
        seed: Of the dropout mask; drawn from torch's global stream if None.
        adapter_ids: Reserved for batches whose rows use different adapters.

    Raises:
        NotImplementedError: If ``adapter_ids`` is given.
        ValueError: If ``dropout`` is outside [0, 1), or ``x`` and ``weight`` differ in dtype.

    Source: LoRA (Hu et al., ICLR 2022), section 4.1.
    """
    if adapter_ids is not None:
        raise NotImplementedError(
            "`adapter_ids` must be None: batches that mix adapters are not supported yet. "
            "Run one batch per adapter."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be at least 0 and below 1, got {dropout}.")
    if x.dtype != weight.dtype:
        raise ValueError(
            f"`x` must have the dtype of `weight`, {weight.dtype}, got {x.dtype}. Cast it first."
        )
    if dropout and seed is None:
        seed = draw_seed()
    return _choose(x).run(x, weight, bias, a, b, scale, dropout, seed)
