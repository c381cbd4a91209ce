"""RL_Collect: let policies decide, and keep what happened in a pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.testing import stream

if TYPE_CHECKING:
    from netllm_adapt import Episode, Pool

    from netllm.protocol import Policy

SHARD = 256
"""Episodes that are collected at once and written as one file; bounds memory."""


def rl_collect(
    task: str,
    *,
    policy: str | Sequence[str],
    out: str | Path,
    setting: str = "default",
    episodes: int = 2_048,
    part: str = "train",
    relabel: str | None = None,
    soft: bool = True,
    epsilon: float = 0.0,
    seed: int = 0,
    append: bool = False,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
) -> Pool:
    """Collect a pool of episodes, and open it.

    Several policies take turns: episode i is driven by policy i modulo their number. The same
    arguments give the same pool.

    Args:
        task: `abr`, or another installed task.
        policy: who decides: names, or `module:callable`.
        out: the pool's folder; must be new or empty unless `append`.
        setting: name of the setting.
        episodes: how many.
        part: part of the setting: `train`, `valid` or `test`.
        relabel: a policy whose answer in every visited state becomes the label to learn; the
            action itself if None.
        soft: keep the probabilities of the relabelling policy, where it has them, and not just its
            answer: a model learns more from each.
        epsilon: share of uniformly random actions, so that states beside the policies' own path are
            seen too.
        seed: of episodes, policies and random actions.
        append: add to the pool that is there.
        data: folder of real data; NETLLM_DATA if None.
        set: fields of the setting to override.

    Raises:
        ValueError: for unknown names (with the nearest known ones) and values that cannot be.
    """
    from netllm_adapt import Pool, PoolWriter
    from tqdm import tqdm

    names = [policy] if isinstance(policy, str) else list(policy)
    _check(names, Path(out), episodes, epsilon, append)
    found = registry.task(task)
    if found.supervised:
        raise ValueError(
            f"{task} learns from recorded right answers, so there is no pool to collect. "
            f"Run `netllm adapt {task} --out RUN`."
        )
    place = found.setting(setting, data=data, **(set or {}))
    drawn = found.episodes(place, part, count=episodes, seed=seed)
    teacher = registry.policy(task, relabel, place) if relabel else None
    how = {"soft": soft, "epsilon": epsilon}
    facts: dict[str, Any] = {"part": part, "policies": names, "relabel": relabel, **how}
    facts |= {"seed": seed, "overrides": dict(set or {})}
    facts["data"] = "synthetic" if place.synthetic else "real"
    new = PoolWriter(out, task=task, setting=setting, provenance=facts, shard_episodes=SHARD)
    bar = tqdm(total=len(drawn), desc="collect", unit="episode", disable=None)
    with bar, new as writer:
        for index, first in enumerate(range(0, len(drawn), SHARD)):
            piece = drawn[first : first + SHARD]
            for episode in _shard(found, place, piece, names, teacher, stream(seed, index), how):
                writer.add(episode)
                bar.update()
    return Pool(Path(out))


def _check(names: Sequence[str], out: Path, episodes: int, epsilon: float, append: bool) -> None:
    if not names:
        raise ValueError("rl_collect needs at least one policy, such as `--policy ppo`.")
    if episodes < 1 or not 0 <= epsilon <= 1:
        raise ValueError(
            "`episodes` must be at least 1 and `epsilon` within [0, 1], "
            f"got {episodes} and {epsilon}."
        )
    if not append and out.is_dir() and any(out.iterdir()):
        raise ValueError(
            f"{out} is not empty. Choose another folder, or add to the pool with append."
        )


def _shard(
    task: Any,
    setting: Any,
    episodes: Sequence[Any],
    names: Sequence[str],
    label: Policy | None,
    seed: int,
    how: Mapping[str, Any],
) -> Iterator[Episode]:
    """Some episodes in order, each driven by the policy whose turn it is."""
    runs = [
        task.record(
            registry.policy(task.name, name, setting),
            setting,
            episodes[turn :: len(names)],
            name=name,
            seed=stream(seed, turn),
            label=label,
            **how,
        )
        for turn, name in enumerate(names)
        if turn < len(episodes)
    ]
    for index in range(len(episodes)):
        yield next(runs[index % len(names)])
