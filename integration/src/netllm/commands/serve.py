"""`netllm serve`."""

from __future__ import annotations

import sys
from typing import Any

from netllm.commands.options_from_docstrings import options_of
from netllm.commands.printed_answer import Answer
from netllm.serve import run


@options_of(run.serve, but={"started"})
def serve(**options: Any) -> Answer:
    """Serve until the process is told to end."""
    run.serve(**options, started=lambda line: print(line, file=sys.stderr, flush=True))
    return Answer({"ended": True}, "The server has ended.")
