"""Which rows of a batch use which of a model's adapters."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Real
from typing import Any

import torch
from jaxtyping import Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from netllm_adapt.lora.lora_linear import rows_of
from netllm_adapt.lora.peft_layer import MixingLayer, Route

BASE = "__base__"
"""PEFT's name for rows that use no adapter."""

_open: list[Route] = []
"""Of the contexts that are open now."""


@contextmanager
def adapters(
    model: nn.Module,
    ids: Sequence[str] | Sequence[int] | Int[Tensor, " rows"],
    *,
    names: Sequence[str] | None = None,
) -> Iterator[None]:
    """Each row of the batches that ``model`` sees in this context uses its own adapter.

    The frozen weights are read once for all rows. Layers that an adapter does not adapt are the
    frozen ones for its rows. The model's own gradient checkpointing
    (``gradient_checkpointing_enable``) repeats the forward pass with the same adapters, wherever
    ``backward`` is called; with ``torch.utils.checkpoint`` around the model ``backward`` must be in
    the context too. One thread may use the model at a time. The rows depend on data, which
    ``torch.compile(fullgraph=True)`` cannot trace: compile a model that mixes adapters without it.

    Args:
        model: Holds the layers of ``add_lora`` or ``load_lora``, with several adapters by name.
        ids: One for each row: an adapter's name, or its number in ``names``. Sorted rows are the
            fastest. The name ``"__base__"`` stands for the frozen model.
        names: Adapters that numbers count into; those of the model, first added first, if None.

    Raises:
        ValueError: If an adapter is unknown, an id out of range, or a layer cannot mix adapters:
            it is merged, not ours, or of another kind than plain LoRA.

    Source: PEFT's ``adapter_names`` of mixed batches, which it offers for inference alone.
    """
    layers = _layers(model)
    route = _route(ids, names, layers)
    for layer in layers:
        layer.refuse_merged()
        for name in route.rows:
            if name in layer.lora_variant or layer.lora_bias.get(name):
                raise ValueError(
                    f"{layer.title}: adapters that mix must be plain LoRA, {name!r} is not."
                )
    _open.append(route)
    try:
        with (
            _set("route", dict.fromkeys(layers, route)),
            _set("_gradient_checkpointing_func", _repeating(model, route)),
        ):
            yield
    finally:
        _open.remove(route)
        for layer in layers:
            layer.mixed_last = True


@contextmanager
def _set(attribute: str, values: dict[Any, Any]) -> Iterator[None]:
    """An attribute of some modules has these values in this context."""
    before = [(module, getattr(module, attribute)) for module in values]
    for module, value in values.items():
        setattr(module, attribute, value)
    try:
        yield
    finally:
        for module, value in before:
            setattr(module, attribute, value)


def _repeating(model: nn.Module, route: Route) -> dict[Any, Any]:
    """For the blocks that transformers checkpoints, a function that uses ``route`` in backward."""
    if not torch.is_grad_enabled():  # a decision is spared the walk over the modules
        return {}
    blocks: list[Any] = [*model.modules()]
    return {
        block: _bound(block._gradient_checkpointing_func, block, route)
        for block in blocks
        if getattr(block, "gradient_checkpointing", False)
        and "_gradient_checkpointing_func" in vars(block)
    }


def _bound(save: Callable[..., Any], block: nn.Module, route: Route) -> Callable[..., Any]:
    """``save``, a function like torch's ``checkpoint``, whose repetition uses ``route``."""
    layers = [module for module in block.modules() if isinstance(module, MixingLayer)]

    def bound(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def routed(*inputs: Any, **options: Any) -> Any:
            with _set("route", dict.fromkeys(layers, route)):
                return run(*inputs, **options)

        return save(routed, *args, **kwargs)

    return bound


def mixes(model: nn.Module) -> bool:
    """Whether rows of the model use adapters of their own now, by `adapters`."""
    # A walk over the modules costs as much as a small decision, and mostly no context is open.
    return bool(_open) and any(
        isinstance(module, MixingLayer) and module.mixes for module in model.modules()
    )


def train_adapters(model: nn.Module, names: Sequence[str]) -> None:
    """Let the matrices of these adapters, and of no other, ask for gradients.

    Raises:
        ValueError: If an adapter is unknown.
    """
    layers = _layers(model)
    for name in names:
        _number(name, _names(layers), layers)
    for layer in layers:
        for matrices in (layer.lora_A, layer.lora_B):
            for name, matrix in matrices.items():
                matrix.requires_grad_(name in names)


def _layers(model: nn.Module) -> list[MixingLayer]:
    found = []
    for name, module in model.named_modules():
        if isinstance(module, MixingLayer):
            found.append(module)
        elif isinstance(module, LoraLayer):
            raise ValueError(
                f"{name}: rows can mix adapters only in layers that `lora_linear` computes, got "
                f"{type(module).__name__}."
            )
    if not found:
        raise ValueError("The model must hold adapters: use `add_lora` or `load_lora` on it first.")
    return found


def _names(layers: Sequence[MixingLayer]) -> list[str]:
    """The adapters of some layers, first added first."""
    return list(dict.fromkeys(name for layer in layers for name in layer.lora_A))


def _span(layers: Sequence[MixingLayer]) -> str:
    """The first and the last layer, for errors that concern them all."""
    return f"{layers[0].title} … {layers[-1].title}"


def _number(name: str, known: Sequence[str], layers: Sequence[MixingLayer]) -> int:
    if name not in known:
        near = get_close_matches(name, known)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{_span(layers)}: the adapter must be one of {', '.join(known)}, got {name!r}.{hint}"
        )
    return known.index(name)


def _route(
    ids: Sequence[str] | Sequence[int] | Tensor,
    names: Sequence[str] | None,
    layers: Sequence[MixingLayer],
) -> Route:
    every = [*_names(layers), BASE]
    choices = every[:-1] if names is None else list(names)
    for name in choices:
        _number(name, every, layers)
    numbers: Any = ids
    if not isinstance(ids, Tensor):
        if all(isinstance(i, str) for i in ids):
            choices = every
            numbers = torch.tensor([_number(str(i), every, layers) for i in ids], dtype=torch.long)
        elif all(isinstance(i, Real) for i in ids):
            numbers = torch.tensor(ids)
        else:
            raise ValueError(
                f"{_span(layers)}: `ids` must all be names or all be numbers, got {ids!r}."
            )
    base: Any = layers[0].base_layer
    rows = rows_of(numbers, len(choices), base.weight.device, _span(layers))
    used = {n: at for n, at in zip(choices, rows, strict=True) if isinstance(at, slice) or len(at)}
    return Route([choices[i] for i in numbers.tolist()], used)
