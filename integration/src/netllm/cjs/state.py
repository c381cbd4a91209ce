"""What a scheduler needs to decide."""

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """Beside its weights."""

    most_jobs: int | None = None
    """The most jobs that were present at once in its pool; None if a checkpoint does not tell."""
