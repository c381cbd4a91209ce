"""`netllm real`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netllm.commands.options_from_docstrings import options_of
from netllm.commands.printed_answer import Answer
from netllm.real import run


@options_of(run.real)
def real(task: str, *, out: Path, **options: Any) -> Answer:
    """Play in real time, and compare."""
    from netllm_adapt.files.locks import locked

    with locked(out):
        found = run.real(task, out=out, **options)
        file = found.save(out / "results.json")
        plots = found.plot(out / "plots")

    def told() -> None:
        found.show()
        print(f"{file} holds it all, {out / 'plays'} what every player told.")
        print(f"{len(plots)} plots of single sessions are in {out / 'plots'}.")

    return Answer(found.document(), told, recipe=out / "recipe.toml")
