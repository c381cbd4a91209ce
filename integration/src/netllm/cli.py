"""The program `netllm`. Commands are imported when they are run, so `--help` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError

USER_MISTAKES = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
    ModuleNotFoundError,
)
"""Errors of a user, whose message says what to do: exit code 2."""
FAILURES = (OSError, RuntimeError, MemoryError)
"""Errors of a run, such as a full disk or a failed download: exit code 1."""

app = App(
    name="netllm",
    help="Language models for networking: collect experience, adapt, test.",
    help_format="plaintext",
    result_action="return_int_as_exit_code_else_zero",
    exit_on_error=False,
    help_on_error=False,
    suppress_keyboard_interrupt=False,
)
_backbone = App(name="backbone", help="Language models to adapt: pull one, list all.")
_pool = App(name="pool", help="Experience pools: what is in one, export it.")
_data = App(name="data", help="Real data: fetch what is public, check what is there.")
for group in (_backbone, _pool, _data):
    app.command(group)

_COMMANDS = [
    (
        app,
        "rl-collect",
        "verbs:rl_collect",
        "Let policies decide, and keep what happened in a pool.",
    ),
    (app, "adapt", "verbs:adapt", "Adapt a frozen language model to a task."),
    (app, "test", "verbs:test", "Compare policies and checkpoints on the same episodes."),
    (app, "quickstart", "quickstart:quickstart", "From traces to an adapted model in ten minutes."),
    (app, "train-baseline", "baseline:train_baseline", "Train a learned rival."),
    (app, "list", "listing:show", "Installed tasks, their settings and policies."),
    (_backbone, "pull", "backbone:pull", "Get a language model and keep it in the cache."),
    (_backbone, "list", "backbone:show", "Known language models, and which of them are cached."),
    (_pool, "info", "pool:info", "What is in a pool."),
    (_pool, "export", "pool:export", "Write a pool as one Parquet, CSV or JSON Lines file."),
    (_data, "fetch", "data:fetch", "Download the public data and verify it."),
    (_data, "check", "data:check", "Verify a folder of data file by file."),
]
for parent, name, where, text in _COMMANDS:
    parent.command(f"netllm.commands.{where}", name=name, help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when done, 1 when the run failed, 2 for bad usage."""
    try:
        code: int = app(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return code
    except CycloptsError:
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except (*USER_MISTAKES, *FAILURES) as error:
        if isinstance(error, BrokenPipeError) and not _is_read():
            return 1
        if os.environ.get("NETLLM_TRACEBACK"):
            raise
        told = getattr(error, "__notes__", [])  # whose code it was: a policy of one's own errs too
        print("\n".join([f"netllm: {error}", *told]), file=sys.stderr)
        if isinstance(error, USER_MISTAKES) and not told:
            return 2
        print("Set NETLLM_TRACEBACK=1 to see where it happened.", file=sys.stderr)
        return 2 if isinstance(error, USER_MISTAKES) else 1


def _is_read() -> bool:
    """Whether anyone still reads standard output: `head` goes when it has seen enough."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # What is still buffered would be written, and fail, once more at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
