"""`netllm quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netllm import quickstart as quickstarting
from netllm.commands.options_from_docstrings import options_of
from netllm.commands.printed_answer import Answer

_HOW_TO_READ = f"""
`checkpoint` is the language model: it has just learned to decide as its teacher
`{quickstarting.TEACHER}` does. `hindsight` knows the future, so nobody gets ahead of it.
"Level" says that this test shows no difference: the interval in brackets holds zero. It learns
in few steps here: `netllm adapt abr` has a longer recipe, and `ppo-wide` is a stronger rival."""


@options_of(quickstarting.quickstart, but={"episodes", "recipe"})
def quickstart(*, out: Path = quickstarting.OUT, **options: Any) -> Answer:
    """Collect, adapt and test on synthetic traces."""
    report = quickstarting.quickstart(out=out, **options)

    def told() -> None:
        report.show()
        print(_HOW_TO_READ)
        print(f"{out} holds results.json, cdf.png, bars.png, the model card and the checkpoint.")

    return Answer(report.document(), told, recipe=out / "recipe.toml")
