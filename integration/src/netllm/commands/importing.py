"""`netllm import`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import join

from netllm import registry
from netllm.commands.options import Output
from netllm.commands.printed_answer import Answer


def import_(
    task: str,
    source: str | None = None,
    /,
    *files: Path,
    out: Path | None = None,
    output: Output = Output(),
) -> Answer:
    """Write public data in the formats that a task reads; without a source, list what there is.

    Args:
        task: The task that is to use it, such as abr.
        source: Where the files are from, such as norway, pcap or helios.
        files: The files, packed by gzip, bzip2 or xz or not.
        out: Folder to write; it must be empty or not exist.
    """
    from importlib import import_module

    found = registry.task(task)
    if not found.importers:
        able = [name for name in registry.tasks() if registry.task(name).importers]
        raise ValueError(
            f"There are importers for {', '.join(able)} only, got {task!r}, which reads its "
            "public formats as they are: see `--set` of `netllm test`."
        )
    importers = import_module(found.importers)
    if source is None:
        known = {
            name: f"{one.makes} from {one.summary}" for name, one in importers.IMPORTERS.items()
        }
        return Answer(known, "\n".join(f"{name:14}{what}" for name, what in known.items()))
    if out is None:
        raise ValueError(f"`netllm import {task} {source}` needs the folder to write: --out DIR.")
    done = importers.run(source, files, out)
    some = f", {done.left_out} that could not be used left out" if done.left_out else ""
    what = importers.IMPORTERS[source].makes
    told = f"{done.out}: {done.made} {what}{some}\nUse: {use_of(task, done.settings)}"
    return Answer(done._asdict(), told)


def use_of(task: str, settings: Mapping[str, str]) -> str:
    """The command that tests on new data, by the fields of a setting that use them."""
    words = [word for field in settings.items() for word in ("--set", "=".join(field))]
    return join(["netllm", "test", task, *words])
