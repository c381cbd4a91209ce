"""Test: policies and checkpoints on the same episodes, paired."""

# ruff: noqa: PT028 (the verb is called test)

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.verbs import check_arguments

if TYPE_CHECKING:
    from netllm.deciders.policy_spec import PolicySpec
    from netllm.report.report import Report

LEAST_DRAWS = 3
"""With fewer simulations of a candidate a gain has no standard error."""


def test(
    task: str,
    *,
    policy: str | Sequence[str] = (),
    checkpoint: str | Path | Sequence[str | Path] = (),
    rivals: str | Sequence[str] = (),
    student: str | Path | None = None,
    when_unsure: float | Sequence[float] = (),
    plan: int | None = None,
    setting: str | Sequence[str] = (),
    part: str = "test",
    seeds: int | Sequence[int] = (),
    episodes: int | None = None,
    jobs: int = 1,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust_backbone: bool = False,
    update_card: bool = False,
) -> Report:
    """Let policies and checkpoints decide in the same episodes, and compare them in pairs.

    Every contender sees the same episodes with the same environment noise. Work is cut into pieces
    of episodes whose size and random streams do not depend on `jobs`. A policy that declares
    `sequential` runs alone, episode by episode in file order, with one reset by the seed itself.

    Args:
        task: What is tested, such as abr.
        policy: Names of policies, NAME:FILE.npz for one with weights of one's own, or
            module:callable for one's own code. One that cannot be built in a setting is an error.
        checkpoint: Folders of runs or checkpoints, or patterns such as `runs/seed-*`; pretrained
            is the one shipped with netllm, owner/name one on the model hub, if no folder is called
            so. Those of one recipe are also reported over their training seeds.
        rivals: Policies that are left out, with a note, of settings that they cannot be built for;
            the task's usual ones if nobody is named.
        student: File of a student that `netllm distil` made: every checkpoint is also tested behind
            it, asked only where the student is unsure. Its context then includes what it missed.
        when_unsure: The student is unsure where its highest probability is below this, or below
            each of several; what was chosen on validation unless given.
        plan: Every checkpoint is also tested as a planner, which simulates the likely candidates
            ahead, each up to so many times (cjs alone): better, slower, and it knows the simulator.
        setting: Where they decide; unless given, where the checkpoints were adapted, with their own
            overrides, or else in default.
        part: Part of the settings: train, valid or test.
        seeds: Seeds of random streams, and of episodes where the task draws them; everybody runs
            once with each. The task's own unless given.
        episodes: Only the first so many episodes.
        jobs: Pieces of work at once, each in its own process; -1 for one per core.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the settings to override, over a checkpoint's own.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says;
            without it only known ones are loaded.
        update_card: Write the results into the model card, README.md, of every checkpoint, in place
            of earlier ones of the same setting.

    Raises:
        ValueError: for unknown names (with the nearest known ones) and values that cannot be, and
            if a policy of `policy`, or every one of `rivals`, cannot be built, or if the card of a
            checkpoint that is shipped or of a hub is to be updated.
        OSError: if a card cannot be written, before the first episode.
    """
    from netllm.deciders.policy_spec import policy_specs
    from netllm.report import provenance, results_in_card
    from netllm.verbs.default_setting import world_of
    from netllm.verbs.testing import make_report, measure_policies

    found = registry.task(task)
    names = [check_arguments.names(some) for some in (policy, checkpoint, rivals)]
    how = {**_asking(student, when_unsure, names[1]), **_planning(plan, names[1]), "device": device}
    specs = policy_specs(found, *names, trust_backbone=trust_backbone, **how)
    cards = own_cards(specs) if update_card else []
    check_arguments.check_count("episodes", episodes)
    check_arguments.check_jobs(jobs)
    asked = measure_policies.Episodes(part, episodes, check_arguments.seeds(seeds))
    world = world_of(found, specs, check_arguments.names(setting), set or {}, data)
    plans = [measure_policies.plan(found, specs, place, asked) for place in world.places]
    results = measure_policies.run(found, plans, jobs=jobs)
    report = make_report.make_report(found, plans, results, world, specs, device=device)
    for card in cards:
        results_in_card.write_results(card, report, command=provenance.running_command())
    return report


def _asking(
    student: str | Path | None, when_unsure: float | Sequence[float], checkpoints: Sequence[str]
) -> dict[str, Any]:
    """Who decides in the checkpoints' place, and when each asks."""
    below = [when_unsure] if isinstance(when_unsure, int | float) else [*when_unsure]
    if student is None:
        if below:
            raise ValueError("`when_unsure` needs a student that may be unsure: --student FILE.")
        return {}
    if not checkpoints:
        raise ValueError("A student needs the checkpoint that it asks: name one with --checkpoint.")
    if wrong := [one for one in below if not 0 <= one < inf]:
        raise ValueError(f"`when_unsure` must be a number that is at least 0, got {wrong[0]}.")
    return {"student": str(student), "when_unsure": below}


def _planning(plan: int | None, checkpoints: Sequence[str]) -> dict[str, Any]:
    """By how many simulations of a candidate the checkpoints plan, if they do."""
    if plan is not None and not checkpoints:
        raise ValueError("A planner needs a checkpoint to improve on: name one with --checkpoint.")
    if plan is not None and plan < LEAST_DRAWS:
        raise ValueError(f"`plan` must be at least {LEAST_DRAWS} simulations, got {plan}.")
    return {"plan": plan}


def own_cards(specs: Iterable[PolicySpec]) -> list[Path]:
    """The cards of the checkpoints that are tested, which are all one's own and can be written.

    Raises:
        ValueError: if there is no checkpoint, or one is shipped with netllm or lies on a hub.
        OSError: if one cannot be written.
    """
    from netllm.deciders.checkpoint_folder import PRETRAINED
    from netllm.verbs.check_writable import check_file

    checkpoints = [spec for spec in specs if spec.checkpoint and not (spec.student or spec.plan)]
    if not checkpoints:
        raise ValueError(
            "`update_card` needs a checkpoint whose card is updated: name one with --checkpoint."
        )
    for spec in checkpoints:
        if spec.checkpoint == PRETRAINED or spec.folder is not None:
            where = "is shipped with netllm" if spec.folder is None else "lies on the model hub"
            raise ValueError(
                f"`update_card` writes into the folders of one's own checkpoints, but "
                f"{spec.checkpoint} {where}. Leave --update-card out, or copy the checkpoint into "
                "a folder and test that."
            )
    cards = [spec.found() / "README.md" for spec in checkpoints]
    for card in cards:
        check_file(card)
    return cards
