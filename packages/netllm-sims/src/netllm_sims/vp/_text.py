"""Wording shared by the errors of this folder."""

from collections.abc import Sequence
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """Error text for a name that is not there, with the nearest ones that are."""
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    some = ", ".join(known[:30]) + (f" and {len(known) - 30} more" if len(known) > 30 else "")
    return f"Unknown {kind} {name!r}. {hint}Known: {some}."
