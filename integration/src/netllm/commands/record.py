"""`netllm record`."""

from __future__ import annotations

from pathlib import Path

from netllm import registry
from netllm.commands.importing import use_of
from netllm.commands.options import Names, Output
from netllm.commands.printed_answer import Answer


def record(
    task: str,
    /,
    *,
    out: Path,
    seconds: float = 60.0,
    only: Names = (),
    output: Output = Output(),
) -> Answer:
    """Record what real programs of this machine do, in a format that a task reads.

    They talk to each other alone: nothing leaves this machine. The task's page says what it needs.

    Args:
        task: The task that is to use it.
        out: Folder to write; it must be empty or not exist.
        seconds: How long to record, in s.
        only: Names of what is recorded; all that is installed unless given.
    """
    from pkgutil import resolve_name

    found = registry.task(task)
    if not found.recorder:
        able = [name for name in registry.tasks() if registry.task(name).recorder]
        raise ValueError(f"Only {' and '.join(able)} can be recorded, got {task!r}.")
    done = resolve_name(found.recorder)(out, seconds=seconds, only=only)
    made = ", ".join(f"{count:,} {name}" for name, count in done.made.items())
    told = f"{done.out}: {made}\nUse: {use_of(task, done.settings)}"
    return Answer(done._asdict(), told)
