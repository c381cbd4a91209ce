"""Arguments that the verbs have in common: what they may be, and the seeds that follow from one."""

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


def check_share(name: str, share: float) -> None:
    """Raise unless it is a share of a whole."""
    if not 0 <= share <= 1:
        raise ValueError(f"`{name}` must be within [0, 1], got {share}.")


def check_count(name: str, count: int | None) -> None:
    """Raise unless there is at least one, or nothing was said."""
    if count is not None and count < 1:
        raise ValueError(f"`{name}` must be at least 1, got {count}.")


def check_jobs(jobs: int) -> None:
    """Raise unless so many pieces of work can run at once."""
    if jobs == 0:
        raise ValueError("`jobs` must be at least 1, or -1 for one per core, got 0.")


def derived_seed(seed: int, index: int) -> int:
    """The seed of the piece of work `index`: pieces of one seed must not repeat each other."""
    import numpy as np

    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
