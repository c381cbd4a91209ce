"""`netllm quickstart`."""

from __future__ import annotations

from pathlib import Path

from netllm.commands.options import Output, RecipeFile
from netllm.commands.printed_answer import Answer
from netllm.registry import DEFAULT_BACKBONE


def quickstart(
    *,
    out: Path = Path("runs/quickstart"),
    backbone: str = DEFAULT_BACKBONE,
    jobs: int = 1,
    recipe_file: RecipeFile = None,
    output: Output = Output(),
) -> Answer:
    """Collect, adapt and test on synthetic traces, in some ten minutes on two cores.

    Args:
        out: Folder of everything it writes.
        backbone: The language model; pulled if it is not there yet.
        jobs: Pieces of the test that run at once.
    """
    from netllm.quickstart import quickstart
    from netllm.report.table import show

    report = quickstart(out=out, backbone=backbone, jobs=jobs)

    def told() -> None:
        show(report)
        print(f"{out} holds results.json, cdf.png, bars.png, the model card and the checkpoint.")

    return Answer(report.document(), told, recipe=out / "recipe.toml")
