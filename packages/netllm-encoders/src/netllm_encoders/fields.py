"""The kinds of fields: what a field encoder is, and where its class is found."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

_GROUP = "netllm.encoders.fields"


@runtime_checkable
class FieldEncoder(Protocol):
    """One field of an observation to features: a `torch.nn.Module` with this call.

    Its class is built as `Kind(hidden=…, **settings)`, with the settings declared for the field,
    and is registered under its kind's name in the entry-point group `netllm.encoders.fields`. If
    it needs an extra of its distribution, the entry point names it:
    `image = "netllm_encoders.image:Image [vision]"`.
    """

    def __call__(self, values: Any, /) -> Float[Tensor, "batch step hidden"]:
        """Features of every step's value.

        Raises:
            ValueError: If the values do not fit the field's settings. `Step` puts "field NAME"
                before the message, so it starts with "must".
        """
        ...


def kinds() -> dict[str, EntryPoint]:
    """The registered kinds by name, none of them imported."""
    return {entry.name: entry for entry in entry_points(group=_GROUP)}


def field_encoder(field: str, settings: Mapping[str, Any], *, hidden: int) -> FieldEncoder:
    """The encoder declared for a field: an instance of its kind.

    Args:
        field: Name of the field, for error messages.
        settings: `kind` and the settings of that kind.
        hidden: Number of features.

    Raises:
        ValueError: If the kind or a setting of it is unknown, or a setting is out of range.
        ModuleNotFoundError: If the kind needs an extra that is not installed.
    """
    options = dict(settings)
    kind = _load(field, options.pop("kind", None))
    known = [name for name in inspect.signature(kind).parameters if name != "hidden"]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(
            f"field {field!r}: unknown setting {unknown[0]!r} of kind {settings['kind']!r}. "
            f"It has: {', '.join(known)}."
        )
    try:
        encoder: FieldEncoder = kind(hidden=hidden, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"field {field!r}: {error}") from error
    return encoder


def field_features(
    name: str, encoder: FieldEncoder, observation: Mapping[str, Any], shape: Sequence[Any]
) -> Float[Tensor, "batch step hidden"]:
    """Features of a field of an observation of so many rows and steps.

    The numbers of both are torch's own symbols while a graph is exported.

    Raises:
        ValueError: If the field is missing or its values have another shape.
    """
    try:
        features = encoder(observation[name])
    except KeyError:
        raise ValueError(
            f"the observation must hold the field {name!r}, got {', '.join(observation)}. "
            "Was the encoder built for another task?"
        ) from None
    except ValueError as error:
        raise ValueError(f"field {name!r} {error}") from error
    if features.shape[:2] != tuple(shape):
        raise ValueError(
            f"field {name!r} must have as many rows and steps as the observation, "
            f"{tuple(shape)}, got {tuple(features.shape[:2])}."
        )
    return features


def _load(field: str, name: object) -> Any:
    known = kinds()
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, n=3) or sorted(known)
        raise ValueError(
            f"field {field!r}: `kind` must name a registered kind of field, got {name!r}. "
            f"Did you mean {' or '.join(map(repr, near))}?"
        )
    entry = known[name]
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        package = entry.dist.name if entry.dist else entry.module.partition(".")[0]
        extras = f"[{','.join(entry.extras)}]" if entry.extras else ""
        raise ModuleNotFoundError(
            f"field {field!r}: kind {name!r} needs the module {error.name!r}, which is not "
            f'installed. Run: python -m pip install "{package}{extras}"',
            name=error.name,
        ) from error
