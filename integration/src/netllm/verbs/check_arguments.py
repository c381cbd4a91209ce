"""Arguments that the verbs have in common: what they may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def names(given: str | Path | Sequence[str | Path]) -> list[str]:
    """One name or several, each once."""
    some = [given] if isinstance(given, str | Path) else given
    return list(dict.fromkeys(str(one) for one in some))


def seeds(given: int | Sequence[int]) -> list[int]:
    """One seed or several, each once.

    Raises:
        ValueError: if one is negative.
    """
    asked = [given] if isinstance(given, int) else list(dict.fromkeys(given))
    for seed in asked:
        check_seed("seed", seed)
    return asked


def check_seed(name: str, seed: int) -> None:
    """Raise unless a random stream can begin with it."""
    if seed < 0:
        raise ValueError(f"`{name}` must be a whole number >= 0, got {seed}.")


def check_count(name: str, count: int | None) -> None:
    """Raise unless there is at least one, or nothing was said."""
    if count is not None and count < 1:
        raise ValueError(f"`{name}` must be at least 1, got {count}.")


def check_jobs(jobs: int) -> None:
    """Raise unless so many pieces of work can run at once."""
    if jobs == 0:
        raise ValueError("`jobs` must be at least 1, or -1 for one per core, got 0.")
