"""Training runs that log every update and keep the best weights."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from netllm_baselines.complete_files import named


class Saved(Protocol):
    """Weights that can be written to a file."""

    def save(self, path: Path) -> None:
        """Write them."""


def keep_best(updates: Iterable[tuple[Mapping[str, float], Saved | None]], out: Path | str) -> Path:
    """Write the weights that come, the latest over earlier ones, to `out`; return that path.

    Args:
        updates: What to log of each update, and its weights if they are the best so far.
        out: The file of the weights; the log, one JSON object per update, is written beside it.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_suffix(".jsonl")
    with named(path), path.open("w", encoding="utf-8") as log:
        for line, weights in updates:
            if weights is not None:
                weights.save(out)
            log.write(json.dumps(line) + "\n")
            log.flush()
    return out
