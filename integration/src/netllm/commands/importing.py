"""`netllm import`."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import join
from typing import Annotated

from cyclopts import Parameter


def import_(
    task: str,
    source: str | None = None,
    /,
    *files: Path,
    out: Path | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Write public data in the formats that a task reads; without a source, list what there is.

    Args:
        task: abr.
        source: Where the files are from, such as norway, puffer or dash.
        files: The files, packed by gzip, bzip2 or xz or not.
        out: Folder to write; it must be empty or not exist.
        json_: Print one JSON document instead.
    """
    from netllm.importing import import_data, sources

    if source is None:
        known = sources(task)
        if json_:
            print(json.dumps(known, indent=1))
        else:
            print("\n".join(f"{name:14}{what}" for name, what in known.items()))
        return 0
    if out is None:
        raise ValueError(f"`netllm import {task} {source}` needs the folder to write: --out DIR.")
    done = import_data(task, source, files, out)
    if json_:
        print(json.dumps({**done._asdict(), "out": str(done.out)}, indent=1))
        return 0
    some = f", {done.left_out} too short or without bandwidth left out" if done.left_out else ""
    what = "traces" if "traces" in done.settings else "video"
    words = [word for field in done.settings.items() for word in ("--set", "=".join(field))]
    print(f"{done.out}: {done.made} {what}{some}\nUse: {join(['netllm', 'test', task, *words])}")
    return 0
