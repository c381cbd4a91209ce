"""What a command gives back: for people, for programs, and where its recipe is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The end of one command."""

    document: Mapping[str, Any]
    """What `--json` prints; paths may be paths."""
    show: str | Callable[[], None]
    """What is printed otherwise: a text, or a function that prints."""
    code: int = 0
    """The program's exit code."""
    recipe: Path | None = None
    """Where the recipe is written that repeats the run."""

    def publish(self, *, as_json: bool) -> None:
        """Print it to standard output."""
        if as_json:
            print(json.dumps(self.document, indent=1, allow_nan=False, default=str))
        elif isinstance(self.show, str):
            print(self.show)
        else:
            self.show()
