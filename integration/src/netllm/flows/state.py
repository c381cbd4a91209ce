"""What a classifier of flows needs to answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """Beside its weights; None is what a checkpoint does not tell."""

    classes: tuple[str, ...] | None = None
    """Names of its answers, in their order."""
    statistics: tuple[str, ...] | None = None
    """Names of the statistics that it sees, in their order."""
