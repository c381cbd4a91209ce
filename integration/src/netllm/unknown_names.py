"""The error for a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """An error that says what a name should have been: the nearest known ones, then all."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return ValueError(f"Unknown {kind} {name!r}. {hint}Known: {', '.join(known) or 'none'}.")
