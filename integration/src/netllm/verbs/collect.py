"""RL_Collect: let policies decide, and keep what happened in a pool."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.data import sources
from netllm.report.provenance import device_name
from netllm.task import PoolTask
from netllm.verbs import arguments
from netllm.verbs.arguments import derived_seed
from netllm.verbs.checkpoint_folder import fetched_folder, weights_of
from netllm.verbs.parallel import results
from netllm.verbs.policy_spec import PolicySpec, weight_sources
from netllm.verbs.resume_collect import held_of, warn_of_other_data
from netllm.verbs.writable import check_folder

if TYPE_CHECKING:
    from netllm_adapt import Episode, Pool, PoolWriter

    from netllm.task import Policy

_log = logging.getLogger(__name__)


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
    """Collect a pool of episodes, and open it.

    Several policies take turns: episode i is driven by policy i modulo their number. The same
    arguments give the same pool.

    Args:
        task: `abr`, `cjs`, or another installed task.
        policy: who decides: names, `NAME:FILE.npz` with weights of one's own, or
            `module:callable`.
        out: the pool's folder; must be new or empty unless `append`.
        checkpoint: adapted models that decide too, after the policies: relabelled, the states that
            a model gets itself into teach it what to do there (DAgger, Ross et al., AISTATS 2011).
        setting: name of the setting.
        episodes: how many.
        part: part of the setting: `train`, `valid` or `test`.
        relabel: a policy whose answer in every visited state becomes the label to learn; the
            action itself if None.
        soft: keep the probabilities of the relabelling policy, where it has them, and not just its
            answer: a model learns more from each.
        epsilon: share of uniformly random actions, so that states beside the policies' own path are
            seen too.
        best_of: attempts at every episode, of which the one with the highest return is kept; they
            differ where a policy draws its choices, or by `epsilon`. Each is relabelled.
        seed: of episodes, policies and random actions.
        append: add to the pool that is there; if it was cut off in the middle of a collection with
            the same arguments, go on with that; if it holds all of it, nothing is done.
        jobs: pieces of the collection that run at once, each in a process of its own; -1 for one
            per core. The pool does not depend on it.
        data: folder of real data; NETLLM_DATA if None.
        set: fields of the setting to override.
        device: where the models of checkpoints decide: `auto`, `cpu`, `cuda` or `mps`.
        trust_backbone: whether a checkpoint's backbone may be one of a folder or a hub, which is
            fetched; without it only known ones are loaded.

    Raises:
        ValueError: for unknown names (with the nearest known ones) and values that cannot be, and
            for episodes that the pool to append to holds in part and cannot go on with, or has
            of other data under the same names.
        OSError: if the pool's folder cannot be written, before the first episode.
        BlockingIOError: if somebody else is writing the pool.
    """
    from netllm_adapt import Pool
    from netllm_adapt.files.locks import locked

    drivers = [
        *(PolicySpec(task, policy=name) for name in arguments.names(policy)),
        *(
            PolicySpec(
                task,
                checkpoint=name,
                device=device,
                trust_backbone=trust_backbone,
                folder=fetched_folder(task, name, home=Path.cwd()),
            )
            for name in arguments.names(checkpoint)
        ),
    ]
    _check(drivers, Path(out), episodes, epsilon, best_of, append)
    arguments.check_jobs(jobs)
    if seed < 0:
        raise ValueError(f"`seed` must be a whole number >= 0, got {seed}.")
    found = _pool_task(task)
    place = found.setting(setting, data=data, **(set or {}))
    drawn = found.episodes(place, part, count=episodes, seed=seed)
    asked = [*drivers, *([PolicySpec(task, policy=relabel)] if relabel else [])]
    for one in asked:
        one.declared(place)  # wrong names fail before the first episode
    turns = _Turns(task, place, drivers, relabel, soft, epsilon, best_of)
    facts = {"part": part, **turns.facts(), "seed": seed, "overrides": dict(set or {})}
    facts |= {
        "data": sources.world(place),
        "episodes": len(drawn),
        **sources.facts(place, drawn, weight_sources(asked)),
    }
    if checkpoint:
        facts["weights"] = [weights_of(task, name) for name in arguments.names(checkpoint)]
        facts["device"] = device_name(device)
    for note in sources.notes(place):
        _log.warning("%s", note)
    with locked(Path(out)):
        _collect(Path(out), turns, {"setting": setting, **facts}, drawn, append, seed, jobs)
    return Pool(Path(out))


def _collect(
    out: Path,
    turns: _Turns,
    facts: Mapping[str, Any],
    drawn: Sequence[Any],
    append: bool,
    seed: int,
    jobs: int,
) -> None:
    """Write what the pool does not hold yet."""
    from netllm_adapt import PoolWriter

    _check_place(out, append)  # once more: another may have written it meanwhile
    size = registry.task(turns.task).shard
    wanted = {name: value for name, value in facts.items() if name != "device"}  # it may move
    held = held_of(out, wanted, drawn, size) if append else None
    if held == len(drawn):
        _log.warning("%s holds all %s episodes of this collection already.", out, f"{held:,}")
        return
    if append:
        warn_of_other_data(out, facts)
    pieces = [drawn[first : first + size] for first in range(0, len(drawn), size)]
    new = PoolWriter(
        out,
        task=turns.task,
        setting=facts["setting"],
        provenance={name: value for name, value in facts.items() if name != "setting"},
        continues=held is not None,
        shard_episodes=size,
    )
    _write(new, turns, pieces, (held or 0) // size, seed=seed, jobs=jobs)


def _pool_task(task: str) -> PoolTask:
    """The task, which must be one that learns from a pool."""
    found = registry.task(task)
    if not isinstance(found, PoolTask):
        raise ValueError(
            f"{task} learns from recorded right answers, so there is no pool to collect. "
            f"Run `netllm adapt {task} --out RUN`."
        )
    return found


def _check(
    drivers: Sequence[PolicySpec],
    out: Path,
    episodes: int,
    epsilon: float,
    best_of: int,
    append: bool,
) -> None:
    if not drivers:
        raise ValueError("rl_collect needs at least one policy, such as `--policy ppo`.")
    if episodes < 1 or not 0 <= epsilon <= 1:
        raise ValueError(
            "`episodes` must be at least 1 and `epsilon` within [0, 1], "
            f"got {episodes} and {epsilon}."
        )
    if best_of < 1:
        raise ValueError(f"`best_of` must be at least 1, got {best_of}.")
    _check_place(out, append)
    check_folder(out)


def _check_place(out: Path, append: bool) -> None:
    """Nothing, if a collection may be written there."""
    from netllm_adapt.files.locks import lock_names

    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder, got the file {out}. Choose another.")
    if not append and out.is_dir() and {entry.name for entry in out.iterdir()} - lock_names():
        raise ValueError(
            f"{out} is not empty. Choose another folder, or add to the pool with append."
        )


def _write(
    writer: PoolWriter,
    turns: _Turns,
    pieces: Sequence[Sequence[Any]],
    done: int,
    *,
    seed: int,
    jobs: int,
) -> None:
    """Let the policies play the pieces that are not done, and write their episodes in order."""
    from tqdm import tqdm

    calls = (partial(turns.run, pieces[i], derived_seed(seed, i)) for i in range(done, len(pieces)))
    played = results(calls, jobs=jobs)
    held, total = sum(map(len, pieces[:done])), sum(map(len, pieces))
    with (
        tqdm(total=total, initial=held, desc="collect", unit="episode", disable=None) as bar,
        writer,
    ):
        for episodes in played:
            for episode in episodes:
                writer.add(episode)
                bar.update()


@dataclass(frozen=True)
class _Turns:
    """Policies that take turns, episode by episode."""

    task: str
    setting: Any
    drivers: Sequence[PolicySpec]
    relabel: str | None
    soft: bool
    epsilon: float
    best_of: int

    def facts(self) -> dict[str, Any]:
        """Who decides, who labels, and how, as the pool remembers it."""
        names = ("relabel", "soft", "epsilon", "best_of")
        drivers = [driver.name for driver in self.drivers]
        return {"policies": drivers, **{name: getattr(self, name) for name in names}}

    def run(self, episodes: Sequence[Any], seed: int) -> list[Episode]:
        """The episodes in order."""
        runs = [
            iter(self._noted(driver, episodes[turn :: len(self.drivers)], derived_seed(seed, turn)))
            for turn, driver in enumerate(self.drivers)
            if turn < len(episodes)
        ]
        return [next(runs[index % len(runs)]) for index in range(len(episodes))]

    def _noted(self, driver: PolicySpec, episodes: Sequence[Any], seed: int) -> list[Episode]:
        """The best attempts; an error says whose they were."""
        try:
            return self._best(driver, episodes, seed)
        except Exception as error:
            labelled = f", labelled by {self.relabel!r}," if self.relabel else ""
            error.add_note(f"It was {driver.name!r}{labelled} in setting {self.setting.name!r}.")
            raise

    def _best(self, driver: PolicySpec, episodes: Sequence[Any], seed: int) -> list[Episode]:
        """The best attempt at each episode."""
        task = _pool_task(self.task)
        policy = driver.build(self.setting)
        label = self._label(driver, policy)
        best: list[Episode] = []
        for attempt in range(self.best_of):
            record = task.record(
                policy,
                self.setting,
                episodes,
                name=driver.name,
                seed=derived_seed(seed, attempt) if attempt else seed,
                label=label,
                soft=self.soft,
                epsilon=self.epsilon,
            )
            done = list(record)
            best = [max(pair, key=_earned) for pair in zip(best or done, done, strict=True)]
        return best

    def _label(self, driver: PolicySpec, policy: Policy) -> Policy | None:
        """Who labels: the driver itself if it is named again and the task would ask it once."""
        if not self.relabel:
            return None
        if driver.policy == self.relabel and _pool_task(self.task).asks_once:
            return policy
        return registry.policy(self.task, self.relabel, self.setting)


def _earned(episode: Episode) -> float:
    return float(episode.rewards.sum())
