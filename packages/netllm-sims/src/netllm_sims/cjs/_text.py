"""Words of error messages."""

from collections.abc import Sequence
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """Message that a name is unknown, with the nearest ones and all."""
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"Unknown {kind} {name!r}. {hint}Known: {', '.join(known)}."
