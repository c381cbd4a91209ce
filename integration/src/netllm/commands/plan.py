"""`netllm plan`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from cyclopts import App

from netllm.commands.options_from_docstrings import options_of
from netllm.commands.printed_answer import Answer
from netllm.commands.recipe_files import read_recipe, read_task_recipe, recipe_for
from netllm.registry import DEFAULT_BACKBONE
from netllm.verbs import plan as planning


@options_of(planning.plan)
def plan_command(task: str, **options: Any) -> Answer:
    """Plan a run, and say whether it fits."""
    if flags := options.get("recipe"):
        options["recipe"] = recipe_for(task, options.get("backbone", DEFAULT_BACKBONE), flags)
    planned = planning.plan(task, **options)
    whole = planned.plan
    document = dataclasses.asdict(whole) | {
        "task": task,
        "peak": whole.peak,
        "fits": whole.fits,
        "remedies": [{"change": change, "peak": p.peak} for change, p in planned.remedies],
        "seconds_per_step": planned.seconds_per_step,
    }
    return Answer(document, partial(_show, planned))


plan = App(name="plan", config=[read_recipe, read_task_recipe])
plan.default(plan_command)


def _show(planned: planning.Planned) -> None:
    from rich.table import Table

    from netllm.report.table import wide_console

    whole, gib = planned.plan, planning.gib
    phases = (whole.loading, whole.learning, whole.validating, whole.deciding)
    table = Table("GiB", "loading", "learning", "validating", "deciding, one session")
    for name in dict.fromkeys(name for phase in phases for name in phase):
        cells = (phase.get(name, 0) / planning.GIB for phase in phases)
        table.add_row(name, *(f"{cell:.2f}" if cell else "" for cell in cells))
    table.add_section()
    table.add_row("together", *(f"{sum(phase.values()) / planning.GIB:.2f}" for phase in phases))
    wide_console().print(table)
    print(
        f"{whole.rows} rows of {whole.tokens} tokens at once, {whole.blocks} blocks. Activations: "
        f"{whole.bytes_per_token_and_layer / 1024:.1f} KiB per token and block. Keys and values: "
        f"{whole.bytes_per_session / 2**20:.1f} MiB per session."
    )
    time = "divide by what your device sustains (--tflops)"
    if planned.seconds_per_step is not None:
        time = f"{planned.seconds_per_step:.3g} s at the given rate"
    print(f"A step of the optimiser is {whole.flops_per_step / 1e12:.3g}e12 operations: {time}.")
    fits = "fits" if whole.fits else "does not fit"
    print(f"It takes {gib(whole.peak)} of {gib(whole.available)}: it {fits}.")
    if not whole.fits:
        print(planning.advice(planned.remedies))
