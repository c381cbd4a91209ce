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

from netllm_adapt.lora.functions import rows_of
from netllm_adapt.lora.layer import MixingLayer, Route

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
            it is merged, not ours, of another kind than plain LoRA, or of another size.

    Source: PEFT's ``adapter_names`` of mixed batches, which it offers for inference alone.
    """
    layers = _layers(model)
    known = list(dict.fromkeys(name for layer in layers for name in layer.lora_A))
    route = _route(ids, known, names, layers)
    for layer in layers:
        _check(layer, [name for name in route.rows if name in layer.lora_A])
    _open.append(route)
    try:
        with _use(layers, route), _repeated_with(model, route):
            yield
    finally:
        _open.remove(route)
        for layer in layers:
            layer.mixed_last = True


@contextmanager
def _use(layers: Sequence[MixingLayer], route: Route) -> Iterator[None]:
    before = [layer.route for layer in layers]
    for layer in layers:
        layer.route = route
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.route = old


@contextmanager
def _repeated_with(model: nn.Module, route: Route) -> Iterator[None]:
    """Blocks that transformers checkpoints in this context use ``route`` again in backward."""
    if not torch.is_grad_enabled():  # a decision is spared the walk over the modules
        yield
        return
    blocks: list[Any] = [
        module
        for module in model.modules()
        if getattr(module, "gradient_checkpointing", False)
        and "_gradient_checkpointing_func" in vars(module)
    ]
    before = [block._gradient_checkpointing_func for block in blocks]
    for block, save in zip(blocks, before, strict=True):
        block._gradient_checkpointing_func = _bound(save, block, route)
    try:
        yield
    finally:
        for block, save in zip(blocks, before, strict=True):
            block._gradient_checkpointing_func = save


def _bound(save: Callable[..., Any], block: nn.Module, route: Route) -> Callable[..., Any]:
    """``save``, a function like torch's ``checkpoint``, whose repetition uses ``route``."""
    layers = [module for module in block.modules() if isinstance(module, MixingLayer)]

    def bound(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def routed(*inputs: Any, **options: Any) -> Any:
            with _use(layers, route):
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
    known = list(dict.fromkeys(name for layer in layers for name in layer.lora_A))
    for name in names:
        _find(name, known, _span(layers))
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


def _span(layers: Sequence[MixingLayer]) -> str:
    """The first and the last layer, for errors that concern them all."""
    return f"{layers[0].title} … {layers[-1].title}"


def _find(name: str, known: Sequence[str], where: str) -> int:
    if name not in known:
        near = get_close_matches(name, known)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{where}: the adapter must be one of {', '.join(known)}, got {name!r}.{hint}"
        )
    return known.index(name)


def _route(
    ids: Sequence[str] | Sequence[int] | Tensor,
    known: list[str],
    names: Sequence[str] | None,
    layers: Sequence[MixingLayer],
) -> Route:
    where = _span(layers)
    choices = list(known if names is None else names)
    for name in choices:
        _find(name, [*known, BASE], where)
    if isinstance(ids, Tensor):
        numbers = ids
    elif all(isinstance(i, str) for i in ids):
        choices = [*known, BASE]
        numbers = torch.tensor([_find(str(i), choices, where) for i in ids], dtype=torch.long)
    elif all(isinstance(i, Real) for i in ids):
        numbers = torch.tensor(ids)
    else:
        raise ValueError(f"{where}: `ids` must all be names or all be numbers, got {ids!r}.")
    base: Any = layers[0].base_layer
    rows = zip(choices, rows_of(numbers, len(choices), base.weight.device, where), strict=True)
    return Route(len(numbers), {n: at for n, at in rows if isinstance(at, slice) or len(at)})


def _check(layer: MixingLayer, names: Sequence[str]) -> None:
    where = layer.title
    layer.refuse_merged()
    outputs, inputs = layer.out_features, layer.in_features
    for name in names:
        if name in layer.lora_variant or layer.lora_bias[name]:
            raise ValueError(f"{where}: adapters that mix must be plain LoRA, {name!r} is not.")
        a: Any = layer.lora_A[name].weight.shape
        b: Any = layer.lora_B[name].weight.shape
        if (a[1], b[0]) != (inputs, outputs):
            raise ValueError(
                f"{where}: the adapter {name!r} must map {inputs} inputs to {outputs} outputs, got "
                f"{a[1]} and {b[0]}. Was it made for another model?"
            )
