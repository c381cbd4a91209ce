"""Graph convolutions by name: how a stage learns of its children.

torch-geometric, the extra `graph`, is imported where a layer is made and never before.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from netllm_encoders.graph.mlp import mlp

Convolution = str | type[nn.Module] | Callable[[int], nn.Module]
"""A name, a class built of the numbers of features that come in and go out, or a function of the
number of features that makes a layer."""

_GAT_HEADS = 4
_FAULTS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What layers make of arguments that are none of theirs."""


def require_torch_geometric() -> None:
    """Raise unless torch-geometric is installed.

    Raises:
        ModuleNotFoundError: If it is not, with the command that installs it.
    """
    try:
        import torch_geometric.nn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"graphs need the module {error.name!r}, which is not installed. "
            'In a clone: python -m pip install "./packages/netllm-encoders[graph]"',
            name=error.name,
        ) from error


class Residual(nn.Module):
    """A round of messages by any layer: x + GELU(layer(norm(x), edges)).

    Raises:
        ValueError: If the layer cannot be called so, or gives another number of features.
    """

    def __init__(self, hidden: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.layer = layer
        _try(layer, hidden)

    def forward(
        self, stages: Float[Tensor, "stage hidden"], edges: Int[Tensor, "2 edge"]
    ) -> Float[Tensor, "stage hidden"]:
        """The stages, each with what the layer adds to it; an edge is (child, parent)."""
        updated: Tensor = stages + nn.functional.gelu(self.layer(self.norm(stages), edges))
        return updated


def _gin(hidden: int, **settings: Any) -> nn.Module:
    from torch_geometric.nn import GINConv

    layer: nn.Module = GINConv(mlp(hidden, hidden), **({"train_eps": True} | settings))
    return layer


def _gat(hidden: int, *, heads: int = _GAT_HEADS, **settings: Any) -> nn.Module:
    from torch_geometric.nn import GATConv

    if heads < 1 or hidden % heads:
        raise ValueError(f"`heads` must divide the {hidden} features, got {heads}.")
    layer: nn.Module = GATConv(hidden, hidden // heads, heads=heads, **settings)
    return layer


def _sage(hidden: int, **settings: Any) -> nn.Module:
    from torch_geometric.nn import SAGEConv

    layer: nn.Module = SAGEConv(hidden, hidden, **settings)
    return layer


_ALIASES: Mapping[str, Callable[..., nn.Module]] = {"gin": _gin, "gat": _gat, "sage": _sage}
NAMES = ("decima", *_ALIASES)
"""The short names; those of layers of `torch_geometric.nn` are names as well."""


def one_round(conv: Convolution, hidden: int, settings: Mapping[str, Any]) -> nn.Module:
    """One round of messages among stages, `round(stages, edges)`.

    Args:
        conv: Of `NAMES`; the name of a layer of `torch_geometric.nn` or any class, which is
            built as `conv(hidden, hidden, **settings)`; or a function, called as `conv(hidden)`.
        hidden: Number of features.
        settings: Of the layer.

    Raises:
        ValueError: If the name is unknown, or the layer cannot be made or used so.
    """
    if conv == "decima":
        if settings:
            raise ValueError(f"conv='decima' has no settings, got {', '.join(settings)}.")
        from netllm_encoders.graph.decima import Decima

        return Decima(hidden)
    name, make = name_of(conv), _maker(conv, hidden)
    try:
        layer = make(**settings)
    except _FAULTS as error:
        raise ValueError(
            f"the convolution {name!r} cannot be made for {hidden} features with the settings "
            f"{dict(settings)!s:.200}: {error}"
        ) from error
    try:
        return Residual(hidden, layer)
    except ValueError as error:
        raise ValueError(f"the convolution {name!r} {error}") from error


def name_of(conv: Convolution) -> str:
    """What a configuration calls it: its name, with the module if it is none of `NAMES` or PyG's.

    A name with a module in it builds nothing: a configuration is data, never a program.
    """
    if isinstance(conv, str):
        return conv
    name = getattr(conv, "__name__", type(conv).__name__)
    return name if _layers().get(name) is conv else f"{getattr(conv, '__module__', '')}.{name}"


def is_own(conv: Convolution) -> bool:
    """Whether it is a class or function that no configuration can name."""
    return not isinstance(conv, str) and name_of(conv) not in _layers()


def _maker(conv: Convolution, hidden: int) -> Callable[..., nn.Module]:
    """A function of the settings."""
    if isinstance(conv, str):
        if conv in _ALIASES:
            return partial(_ALIASES[conv], hidden)
        conv = _named(conv)
    if not isinstance(conv, type):
        return partial(conv, hidden)
    known = inspect.signature(conv).parameters
    if {"in_channels", "out_channels"} <= set(known):
        return partial(conv, in_channels=hidden, out_channels=hidden)
    return partial(conv, hidden, hidden)


def _layers() -> dict[str, type[nn.Module]]:
    """The layers of torch-geometric by name that are built of features in and out."""
    import torch_geometric.nn

    conv = torch_geometric.nn.conv
    return {
        name: layer
        for name in conv.__all__
        if isinstance(layer := getattr(conv, name), type)
        and issubclass(layer, torch_geometric.nn.MessagePassing)
        and {"in_channels", "out_channels"} <= set(inspect.signature(layer).parameters)
    }


def _named(name: str) -> type[nn.Module]:
    layers = _layers()
    if name not in layers:
        known = (*NAMES, *layers)
        near = difflib.get_close_matches(name, known, n=3) or NAMES
        raise ValueError(
            "`conv` must be a short name or a layer of torch_geometric.nn that is built of "
            f"in_channels and out_channels, got {name!r:.80}. Did you mean "
            f"{' or '.join(map(repr, near))}? A layer of your own is given as a class, by a class "
            "of encoders of your own: from_pretrained(FOLDER, parts=[CLASS])."
        )
    return layers[name]


def _try(layer: nn.Module, hidden: int) -> None:
    """Raise unless the layer maps stages and edges to as many features per stage."""
    stages, edges = torch.zeros(2, hidden), torch.tensor([[1], [0]])
    if stages.is_meta:  # nothing has values there
        return
    training = layer.training
    layer.eval()
    try:
        with torch.no_grad():
            updated = layer(stages, edges)
    except _FAULTS as error:
        raise ValueError(f"must be called as layer(stages, edges), and says: {error}") from error
    finally:
        layer.train(training)
    if not isinstance(updated, Tensor) or updated.shape != stages.shape:
        shape = tuple(updated.shape) if isinstance(updated, Tensor) else type(updated).__name__
        raise ValueError(
            f"must give as many features as it gets, {hidden} per stage, got {shape} for "
            f"{tuple(stages.shape)}. Layers with several heads may want concat=False."
        )
