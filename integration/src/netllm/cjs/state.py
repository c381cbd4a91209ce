"""What a scheduler needs to decide."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class State:
    """Beside its weights."""

    most_jobs: Annotated[int, Meta(ge=1)] | None = None
    """The most jobs that were present at once in its pool; None if a checkpoint does not tell."""
