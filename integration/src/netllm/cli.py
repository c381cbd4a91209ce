"""The program `netllm`. Commands are imported when they are run, so `--help` is quick."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import App, ArgumentCollection
from cyclopts.exceptions import CycloptsError

if TYPE_CHECKING:
    from netllm.commands.printed_answer import Answer

USER_MISTAKES = (
    *(ValueError, FileNotFoundError, FileExistsError, PermissionError, ModuleNotFoundError),
    *(NotADirectoryError, IsADirectoryError),
)
"""Errors of a user, whose message says what to do: exit code 2."""
FAILURES = (OSError, RuntimeError, MemoryError)
"""Errors of a run, such as a full disk or a failed download: exit code 1."""
KNOWN = (*USER_MISTAKES, *FAILURES)


def _recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Read the file that `--recipe` names, where a command has this option."""
    from netllm.commands.recipe_files import read_recipe

    read_recipe(app, commands, arguments)


app = App(
    name="netllm",
    help="Language models for networking: collect experience, adapt, improve, test.",
    help_format="plaintext",
    config=_recipe,
    exit_on_error=False,
    print_error=False,
    help_on_error=False,
    suppress_keyboard_interrupt=False,
)
_backbone = App(name="backbone", help="Language models to adapt: pull one, list all.")
_pool = App(name="pool", help="Experience pools: what is in one, export it.")
_data = App(name="data", help="Real data: fetch what is public, check what is there.")
for group in (_backbone, _pool, _data):
    app.command(group)

_COMMANDS = [
    (app, "rl-collect", "verbs:rl_collect", "Let policies decide, and keep it in a pool."),
    (app, "adapt", "verbs:adapt", "Adapt a frozen language model to a task."),
    (app, "plan", "plan:plan", "What adapting takes in memory and time, and what makes it fit."),
    (app, "improve", "verbs:improve", "Let an adapted model learn on where it errs."),
    (app, "distil", "verbs:distil", "Make a small network that answers as an adapted model does."),
    (app, "sweep", "sweep:sweep", "Adapt with many recipes, which a search chooses."),
    (app, "test", "verbs:test", "Compare policies and checkpoints on the same episodes."),
    (app, "reproduce", "reproduce:reproduce", "Every claim of the paper, in one report."),
    (app, "explain", "explain:explain", "Which inputs moved the decisions of an adapted model."),
    (app, "serve", "serve:serve", "Answer over HTTP with adapted models."),
    (app, "real", "real:real", "Let policies decide for real players, in real time."),
    (app, "export", "export:export", "Write an adapted model or a student as an ONNX graph."),
    (app, "quickstart", "quickstart:quickstart", "From traces to an adapted model in minutes."),
    (app, "train-baseline", "baseline:train_baseline", "Train a learned rival."),
    (app, "runs", "runs:runs", "How the runs of a folder stand."),
    (app, "list", "list_names:show", "Installed tasks, their settings and policies."),
    (app, "doctor", "doctor:doctor", "What there is on this machine, and how to get the rest."),
    (app, "completion", "shell_completion:completion", "A script by which a shell completes."),
    (_backbone, "pull", "backbone:pull", "Get a language model and keep it in the cache."),
    (_backbone, "check", "backbone:check", "Compare pulled models with their digests."),
    (_backbone, "list", "backbone:show", "Known language models, and which of them are cached."),
    (_pool, "info", "pool:info", "What is in a pool."),
    (_pool, "export", "pool:export", "Write a pool as one Parquet, CSV or JSON Lines file."),
    (app, "import", "importing:import_", "Write public traces and videos in our formats."),
    (app, "record", "record:record", "Record real programs of this machine as data of a task."),
    (_data, "fetch", "data:fetch", "Download the public data and verify it."),
    (_data, "check", "data:check", "Verify a folder of data file by file."),
]
for parent, name, where, text in _COMMANDS:
    parent.command(f"netllm.commands.{where}", name=name, help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when done, 1 when the run failed, 2 for bad usage."""
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return code
    except CycloptsError as error:
        command = " ".join(["netllm", *(error.command_chain or ())])
        return _failed(2, f"{error}", f"Try: {command} --help")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        return _told(error)


def _run(words: Sequence[str]) -> int:
    """The exit code of a command."""
    command, bound, _ = app.parse_args(words)
    if command == app.help_print:
        from netllm.commands.help import show_help

        show_help(app, bound.arguments["tokens"])
        return 0
    if (command.__module__ or "").partition(".")[0] == "cyclopts":  # --version
        command(*bound.args, **bound.kwargs)
        return 0
    from netllm.commands.options import Output
    from netllm.commands.progress_and_warnings import told
    from netllm.commands.recipe_files import write_recipe

    output = bound.arguments.get("output", Output())
    speaks = os.environ.get("RANK", "0") == "0"  # of several processes that share a run
    with told(quiet=output.quiet or not speaks, verbose=output.verbose):
        answer: Answer = command(*bound.args, **bound.kwargs)
        if not speaks:
            return answer.code
        if answer.recipe is not None:
            names, _, _ = app.parse_commands(words)
            whole = inspect.BoundArguments(bound.signature, bound.arguments.copy())
            whole.apply_defaults()  # those too that were not given
            write_recipe(answer.recipe, " ".join(names), whole.arguments)
        answer.publish(as_json=output.json)
    return answer.code


def _told(error: Exception) -> int:
    """Tell what went wrong; what is neither a user's mistake nor a known failure is our own."""
    if isinstance(error, BrokenPipeError) and not _is_read():
        return 1
    notes: list[str] = getattr(error, "__notes__", [])  # whose code it was, such as a policy's
    if os.environ.get("NETLLM_TRACEBACK") or not (notes or isinstance(error, KNOWN)):
        raise error
    text = str(error) if isinstance(error, KNOWN) else f"{type(error).__name__}: {error}"
    mistake = isinstance(error, USER_MISTAKES)
    if notes or not mistake:
        notes = [*notes, "Set NETLLM_TRACEBACK=1 to see where it happened."]
    return _failed(2 if mistake else 1, text, *notes)


def _failed(code: int, text: str, *notes: str) -> int:
    print("\n".join([f"netllm: error: {text}", *notes]), file=sys.stderr)
    return code


def _is_read() -> bool:
    """Whether anyone still reads standard output: `head` goes when it has seen enough."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # What is still buffered would be written, and fail, once more at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
