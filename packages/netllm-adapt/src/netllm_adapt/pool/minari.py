"""Pools as data sets of Minari, the collection of offline data of Gymnasium's field, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from netllm_adapt.episodes import Episode
from netllm_adapt.files.locks import locked
from netllm_adapt.files.writing import check_replaceable, new_folder
from netllm_adapt.pool.reader import Pool
from netllm_adapt.pool.writer import PoolWriter

try:
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage
except ImportError as error:
    raise ModuleNotFoundError(
        f"Data sets of Minari need it ({error}). "
        "In a clone: pip install './packages/netllm-adapt[minari]'"
    ) from error

_OURS = "netllm"
"""What Minari has no name for lies under this one in an episode's metadata."""


def to_minari(pool: Pool, path: str | Path, *, dataset_id: str = "netllm/pool-v0") -> Path:
    """Write a pool as a data set of Minari, and return its folder.

    Open it with `minari.MinariDataset(path)`. Numbers stay as they are, bit for bit. Labels are
    `infos["label"]`; names, seeds and what else an episode tells are in its metadata.

    Args:
        pool: of fields that have one shape at every step, with final observations.
        path: the folder; what is there already must be such a data set, and is replaced.
        dataset_id: its name, as Minari writes them.

    Raises:
        ValueError: if Minari cannot hold the pool.
        FileExistsError: if the folder holds something else.
        BlockingIOError: if somebody else is writing the folder.
    """
    path = Path(path).resolve()
    check_replaceable(
        path, "a data set of Minari", ours=lambda folder: (folder / "metadata.json").is_file()
    )
    for name, field in pool.fields.items():
        if field.ragged:
            raise ValueError(
                f"{pool.path}: Minari needs fields of one shape at every step, but {name!r} holds "
                "any number of values. Read the pool with `netllm_adapt.Pool` or as Parquet."
            )
    seen = {name: _box(np.dtype(one.dtype), one.shape) for name, one in pool.fields.items()}
    with locked(path, file=True), new_folder(path) as work:
        storage: Any = MinariStorage.new(
            work,
            observation_space=spaces.Dict(seen),
            action_space=_action_space(pool),
            data_format="arrow",
        )
        policies = ", ".join(sorted({episode.policy for episode in pool}))
        named = {"dataset_id": dataset_id, "algorithm_name": policies}
        storage.update_metadata(named | {"minari_version": version("minari")})
        storage.update_episodes(_buffer(pool, number) for number in range(len(pool)))
        storage.update_episode_metadata([{_OURS: _facts(episode)} for episode in pool])
    return path


def from_minari(path: str | Path, out: str | Path, *, task: str, setting: Any = "") -> Pool:
    """Write a data set of Minari as a pool, and open it.

    Args:
        path: the data set's folder.
        out: the pool's folder; must be new or empty.
        task: the task that the pool is of.
        setting: the environment's setting, as a pool keeps it.

    Raises:
        ValueError: naming the folder, if it holds no data set, or one whose spaces a pool cannot
            hold: a pool takes arrays, or a flat dictionary of them.
        FileExistsError: if the pool's folder holds something.
        BlockingIOError: if somebody else is writing the pool.
    """
    path, out = Path(path), Path(out)
    check_replaceable(out)
    try:
        storage: Any = MinariStorage.read(path)
        about = storage.metadata
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: must be a data set of Minari, but {error!r}.") from error
    name = str(about.get("dataset_id", path.name))
    facts = {"source": f"Minari {name}", "episodes": int(about["total_episodes"])}
    with PoolWriter(out, task=task, setting=setting, provenance=facts) as writer:
        for episode in _episodes(storage, name, str(about.get("algorithm_name") or name)):
            writer.add(episode)
    return Pool(out)


def _box(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    if dtype.kind == "b":
        return spaces.Box(0, 1, shape, np.uint8)
    if dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, shape, dtype.type)
    limits = np.iinfo(dtype)
    return spaces.Box(limits.min, limits.max, shape, dtype.type)


def _action_space(pool: Pool) -> Any:
    """`Discrete` for whole numbers from 0 on, as many as the labels or actions tell."""
    first = pool[0]
    if first.actions.dtype != np.int64 or first.actions.ndim > 1:
        return _box(first.actions.dtype, first.actions.shape[1:])
    if min(int(episode.actions.min()) for episode in pool) < 0:
        return _box(first.actions.dtype, ())
    highest = max(int(episode.actions.max()) for episode in pool)
    answers = 0 if first.labels is None or first.labels.ndim < 2 else first.labels.shape[1]
    return spaces.Discrete(max(highest + 1, answers))


def _buffer(pool: Pool, number: int) -> EpisodeBuffer:
    """One episode; its labels have a copy of the last one beside the final observation."""
    episode = pool[number]
    if episode.final is None or not episode.ended:
        raise ValueError(
            f"{pool.path}: Minari needs the final observation and why an episode ended, but "
            f"episode {episode.id!r} does not tell: an earlier version collected it. Collect the "
            "pool again."
        )
    steps = len(episode.actions)
    last = np.arange(steps) == steps - 1
    labels = None if episode.labels is None else _numbers(episode.labels.reshape(steps, -1))
    return EpisodeBuffer(
        id=number,
        seed=episode.seed,
        observations={
            name: _numbers(np.concatenate([held, np.asarray(episode.final[name])[None]]))
            for name, held in episode.observations.items()
        },
        actions=_numbers(episode.actions),
        rewards=episode.rewards,
        terminations=last & (episode.ended == "terminated"),
        truncations=last & (episode.ended == "truncated"),
        infos=None if labels is None else {"label": np.concatenate([labels, labels[-1:]])},
    )


def _numbers(array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8) if array.dtype == np.bool_ else array


def _facts(episode: Episode) -> dict[str, Any]:
    """What Minari has no name for; types of arrays that it would not hold."""
    labels = episode.labels
    return {
        "id": episode.id,
        "policy": episode.policy,
        "reason": episode.reason,
        "meta": json.dumps(episode.meta),
        "flags": [k for k, v in episode.observations.items() if np.asarray(v).dtype == np.bool_],
        "actions": episode.actions.dtype.name,
        "labels": None if labels is None else [labels.dtype.name, list(labels.shape[1:])],
    }


def _episodes(storage: Any, name: str, policy: str) -> Iterator[Episode]:
    numbers = range(storage.total_episodes)
    metadata = storage.get_episode_metadata(numbers)
    for number, held, about in zip(numbers, storage.get_episodes(numbers), metadata, strict=True):
        ours = about.get(_OURS, {})
        steps = _arrays(storage, held["observations"], flags=ours.get("flags", ()))
        ends = {"terminated": held["terminations"], "truncated": held["truncations"]}
        actions = held["actions"]
        if isinstance(actions, dict | tuple):
            raise ValueError(f"{storage.data_path}: a pool needs actions of one array.")
        yield Episode(
            id=str(ours.get("id", f"{name}/{number}")),
            policy=str(ours.get("policy", policy)),
            seed=int(about.get("seed") or 0),
            observations={key: value[:-1] for key, value in steps.items()},
            actions=np.asarray(actions).astype(ours.get("actions", None), copy=False),
            rewards=np.asarray(held["rewards"]),
            labels=_labels(held, ours.get("labels")),
            meta=json.loads(ours.get("meta", "{}")),
            final={key: value[-1] for key, value in steps.items()},
            ended=next((end for end, at_step in ends.items() if at_step[-1]), ""),
            reason=str(ours.get("reason", "")),
        )


def _arrays(storage: Any, observations: Any, *, flags: Any) -> dict[str, np.ndarray]:
    named: Mapping[str, Any] = (
        observations if isinstance(observations, dict) else {"observation": observations}
    )
    for name, value in named.items():
        if not isinstance(value, np.ndarray):
            raise ValueError(
                f"{storage.data_path}: a pool needs observations of one array, or a flat "
                f"dictionary of arrays, but {name!r} is a {type(value).__name__}."
            )
    return {name: value.astype(bool) if name in flags else value for name, value in named.items()}


def _labels(held: Mapping[str, Any], form: Any) -> np.ndarray | None:
    if not form:
        return None
    dtype, shape = form
    flat: np.ndarray = held["infos"]["label"][:-1]
    return flat.reshape(len(flat), *shape).astype(dtype, copy=False)
