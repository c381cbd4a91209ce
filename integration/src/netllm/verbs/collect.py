"""RL_Collect: let policies decide, and keep what happened in a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.verbs import check_arguments

if TYPE_CHECKING:
    from netllm_adapt import Pool


def rl_collect(
    task: str,
    *,
    policy: str | Sequence[str] = (),
    out: str | Path,
    checkpoint: str | Path | Sequence[str | Path] = (),
    setting: str = "default",
    episodes: int = 2_048,
    part: str = "train",
    relabel: str | None = None,
    soft: bool = True,
    epsilon: float = 0.0,
    best_of: int = 1,
    seed: int = 0,
    append: bool = False,
    jobs: int = 1,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust_backbone: bool = False,
) -> Pool:
    """Let policies decide, and keep what happened in a pool.

    Several policies take turns, episode by episode. The same arguments give the same pool.

    Args:
        task: What is collected for: abr, cjs, or another installed task that learns from pools.
        policy: Who decides: names of policies, NAME:FILE.npz for one with weights of one's own, or
            module:callable for one's own code.
        out: Folder of the pool; must be new or empty unless it is added to.
        checkpoint: Adapted models that decide too, after the policies. Relabelled, the states that
            a model gets itself into teach it what to do there (DAgger, Ross et al., AISTATS 2011).
        setting: Where they decide.
        episodes: How many episodes.
        part: Part of the setting: train, valid or test.
        relabel: Policy whose answer in every visited state becomes the label to learn; unless
            given, what was done is learned.
        soft: Keep that policy's probabilities, where it has them, and not just its answer: a model
            learns more from each.
        epsilon: Share of uniformly random actions, so that states beside the policies' own path
            are seen too.
        best_of: Attempts at every episode, of which the one with the highest return is kept; they
            differ where a policy draws its choices, or by epsilon. Each is relabelled.
        seed: Seed of episodes, policies and random actions.
        append: Add to the pool that is there. Of a collection with the same arguments that was cut
            off, what is missing is added; of a whole one nothing.
        jobs: Pieces of the collection that run at once, each in its own process; -1 for one per
            core. The pool does not depend on it.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says;
            without it only known ones are loaded.

    Raises:
        ValueError: for unknown names (with the nearest known ones) and values that cannot be, and
            for episodes that the pool to append to holds in part and cannot go on with, or has
            of other data under the same names.
        OSError: if the pool's folder cannot be written, before the first episode.
        BlockingIOError: if somebody else is writing the pool.
    """
    from netllm_adapt import Pool

    from netllm.verbs.resumable_collection import check_new, collected_from, write_pool
    from netllm.verbs.take_turns import Turns, deciding, pool_task

    specs = deciding(task, policy, checkpoint, device=device, trust_backbone=trust_backbone)
    check_arguments.check_count("episodes", episodes)
    check_new(Path(out), append=append)
    check_arguments.check_jobs(jobs)
    check_arguments.check_seed("seed", seed)
    found = pool_task(task)
    place = found.setting(setting, data=data, **(set or {}))
    turns = Turns(task, place, specs, relabel, soft, epsilon, best_of)
    drawn = found.episodes(place, part, count=episodes, seed=seed)
    facts = {"setting": setting, "part": part, **turns.facts(), "seed": seed}
    facts |= {"overrides": dict(set or {}), **collected_from(turns, drawn)}
    write_pool(Path(out), turns, facts, drawn, append=append, jobs=jobs)
    return Pool(Path(out))
