"""Test: policies and checkpoints on the same episodes, paired."""

# ruff: noqa: PT028 (the verb is called test)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm.report.result import Report


def test(
    task: str,
    *,
    policy: str | Sequence[str] = (),
    checkpoint: str | Path | Sequence[str | Path] = (),
    rivals: str | Sequence[str] = (),
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
        task: `abr`, or another installed task.
        policy: names of policies, `NAME:FILE.npz` for one with weights of one's own, or
            `module:callable` for one's own code.
        checkpoint: folders of runs or checkpoints, patterns such as `runs/seed-*`, `pretrained`
            for the shipped one, or `owner/name` for one on the model hub, if no folder is called
            so. Those of one recipe are also reported over their training seeds.
        rivals: policies that are left out, with a note, of settings that they cannot be built for
            (another ladder than that of their weights, no data folder); the task's usual ones if
            nothing is named.
        setting: names of settings. Where none is named, that which the checkpoints were adapted
            in, with the overrides that they were adapted with; without checkpoints, `default`.
        part: part of the settings: `train`, `valid` or `test`.
        seeds: seeds of random streams, and of episodes where the task draws them; every contender
            runs once with each. Of cjs, job sequences. The task's own if empty.
        episodes: only the first so many episodes.
        jobs: pieces of work that run at once, each in a process of its own; -1 for one per core.
        data: folder of real data; NETLLM_DATA if None.
        set: fields of the settings to override, over a checkpoint's own.
        device: where the models of checkpoints decide: `auto`, `cpu`, `cuda` or `mps`.
        trust_backbone: whether a checkpoint's backbone may be one of a folder or a hub, which is
            fetched; without it only known ones are loaded.
        update_card: write the table of results into the model card, `README.md`, of every
            checkpoint that is tested, in place of an earlier one of the same setting.

    Raises:
        ValueError: for unknown names (with the nearest known ones) and values that cannot be, and
            if a policy of `policy`, or every one of `rivals`, cannot be built, or if the card of a
            checkpoint that is shipped or of a hub is to be updated.
        OSError: if a card cannot be written, before the first episode.
    """
    from netllm import registry
    from netllm.report.card import write_results
    from netllm.report.compare import compare
    from netllm.report.provenance import running_command
    from netllm.report.result import Report
    from netllm.report.training_seeds import trained
    from netllm.verbs import arguments, run_policies
    from netllm.verbs.default_setting import world_of
    from netllm.verbs.policy_spec import policy_specs
    from netllm.verbs.tested_with import tested_with
    from netllm.verbs.update_card import own_cards

    found = registry.task(task)
    names = [arguments.names(some) for some in (policy, checkpoint, rivals)]
    specs = policy_specs(found, *names, device=device, trust_backbone=trust_backbone)
    cards = own_cards(specs) if update_card else []
    arguments.check_count("episodes", episodes)
    arguments.check_jobs(jobs)
    asked = arguments.seeds(seeds)
    world = world_of(
        specs,
        arguments.names(setting),
        set or {},
        lambda name, own: found.setting(name, data=data, **own),
    )
    plans = [
        run_policies.plan(
            found,
            specs,
            found.setting(name, data=data, **world.overrides),
            run_policies.Episodes(part, episodes, asked),
        )
        for name in world.settings
    ]
    results = run_policies.run(found, plans, jobs=jobs)
    report = Report(
        results=results,
        comparisons=compare(results, found, {one.setting.name: one.members for one in plans}),
        provenance=tested_with(plans, results, world, specs, device),
        metrics=found.metrics,
        bounds=found.bounds,
        recipes=trained(results, found.metrics),
    )
    for card in cards:
        write_results(card, report, command=running_command())
    return report
