"""`netllm explain`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.commands.options_from_docstrings import options_of
from netllm.commands.printed_answer import Answer
from netllm.verbs import explain as explaining

if TYPE_CHECKING:
    from netllm.explaining.explanation import Explanation


@options_of(explaining.explain)
def explain(task: str, *, out: Path, **options: Any) -> Answer:
    """Explain an episode, and show what counts most."""
    explanation = explaining.explain(task, out=out, **options)
    show = partial(_show, explanation, out)
    return Answer(explanation.document(), show, recipe=out / "recipe.toml")


def _show(explanation: Explanation, out: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from netllm.report.table import wide_console

    chosen, turns = explanation.chosen, {one.part: one for one in explanation.sweeps}
    count = len(explanation.decisions)
    table = Table(
        "field",
        f"mean size, {count} decisions",
        f"added at decision {chosen.step}",
        "its answer changes at",
        title=f"What moved the {explanation.value}",
        title_justify="left",
    )
    for name, size in explanation.sizes().items():
        sweep = turns.get(name)
        found = [] if sweep is None else sweep.turns()
        mark = "×" if sweep is not None and sweep.factors else ""
        told = ", ".join(f"{mark}{value:.3g}" for value in found)
        table.add_row(Text(name), f"{size:.4f}", f"{chosen.totals[name]:+.4f}", told)
    wide_console().print(table)
    near = explanation.attention.mean(0)[0]
    tree = explanation.tree
    measure = "R²" if tree.kind == "numbers" else "share of the same answers"
    print(
        f"Decision {chosen.step}: {chosen.value:.4f}, {chosen.neutral:.4f} on the neutral "
        f"observation ({explanation.neutral}). {near:.0%} of its attention is on its own "
        f"{explanation.ago.removesuffix('s')}.\n"
        f"A rule tree, {measure} on {tree.held_out} held-out decisions: {tree.fidelity:.3f}, "
        f"without any rule {tree.rival:.3f}.\n"
        f"Plots and {explaining.FILE} are in {out}."
    )
