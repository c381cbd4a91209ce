"""From traces to an adapted language model, tested against its rivals, in minutes."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from netllm import registry
from netllm.registry import DEFAULT_BACKBONE
from netllm.report.plots import save
from netllm.report.results_in_card import with_results
from netllm.verbs.adapt import adapt
from netllm.verbs.collect import rl_collect
from netllm.verbs.test import test

if TYPE_CHECKING:
    from netllm_adapt import Recipe

    from netllm.report.report import Report

OUT = Path("runs/quickstart")
EPISODES = 2_048
TEACHER = "ppo"
RIVALS = ("bba", "bola", "mpc", TEACHER, "random", "hindsight")


def quick(backbone: str) -> Recipe:
    """Few layers and smaller steps than the best recipe's, so that two cores take minutes.

    Every label is the teacher's, so there is no return to ask for.
    """
    best = registry.task("abr").recipe(backbone)
    short = replace(best, steps=1200, batch=4, validate_every=600)
    return replace(short, layers=best.layers and 2, returns=False)


def quickstart(
    *,
    out: Path = OUT,
    backbone: str = DEFAULT_BACKBONE,
    episodes: int = EPISODES,
    recipe: Recipe | None = None,
    jobs: int = 1,
) -> Report:
    """Collect, adapt and test on synthetic traces; returns the report that it also writes.

    Writes to `out`: `pool`, `run` (with its log), `checkpoint`, `results.json`, `cdf.png`,
    `bars.png` and the model card `README.md`. What an earlier, cut-off quickstart finished is used
    again.

    Args:
        out: Folder of everything that it writes.
        backbone: The language model; pulled if it is not there yet.
        episodes: How many are collected.
        recipe: How the model is trained; `quick(backbone)` if None.
        jobs: Pieces of the test that run at once.
    """
    from netllm_adapt.checkpoint.save_and_load import check_place
    from netllm_adapt.files.writing import new_folder

    check_place(out / "checkpoint")
    _pull(backbone)
    _collect(out / "pool", episodes)
    _say("2/3 adapt", f"{backbone} learns from them")
    run = out / "run"
    adapt(
        "abr",
        pool=out / "pool",
        backbone=backbone,
        out=run,
        recipe=recipe or quick(backbone),
        resume=run.exists(),
    )
    checkpoint = out / "checkpoint"
    with new_folder(checkpoint) as work:
        for file in (run / "best").iterdir():
            shutil.copy(file, work)
    _say("3/3 test", "on synthetic traces that nobody has seen")
    report = test("abr", rivals=RIVALS, checkpoint=checkpoint, setting="synthetic", jobs=jobs)
    report.save(out / "results.json")
    save(report, registry.task("abr").draws, out)
    _write_card(checkpoint / "README.md", out / "README.md", report)
    return report


def _pull(backbone: str) -> None:
    from netllm_adapt import backbones, pull

    if any(entry.name == backbone and not entry.cached for entry in backbones()):
        pull(backbone, progress=lambda line: _say("0/3 pull", line))


def _collect(pool: Path, episodes: int) -> None:
    from netllm_adapt import Pool

    _say("1/3 collect", f"{episodes} episodes on synthetic traces, labelled by {TEACHER}")
    if pool.exists():
        if len(Pool(pool)) == episodes:
            return
        shutil.rmtree(pool)
    rl_collect(
        "abr",
        policy=[TEACHER, f"{TEACHER}-sampled"],
        relabel=TEACHER,
        epsilon=0.08,
        setting="synthetic",
        set={"alter": 0.5},
        episodes=episodes,
        out=pool,
    )


def _write_card(source: Path, card: Path, report: Report) -> None:
    from netllm_adapt.files.writing import new_file

    text = with_results(source.read_text(encoding="utf-8"), report)
    plots = "![QoE per episode](cdf.png)\n\n![mean QoE](bars.png)"
    with new_file(card) as work:
        work.write_text(f"{text.rstrip()}\n\n{plots}\n", encoding="utf-8")


def _say(stage: str, text: str) -> None:
    logging.getLogger("netllm.steps").info("[%s] %s", stage, text)
