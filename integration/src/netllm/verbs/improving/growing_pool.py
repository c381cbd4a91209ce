"""The pool of an improvement: begun with a copy of another one, it grows round by round."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from netllm_adapt import Episode

    from netllm.task import PoolTask


def check_grows(task: PoolTask, pool: Path, setting: Any, teacher: Any, *, soft: bool) -> None:
    """Raise unless episodes of a setting, labelled by a teacher, can be added to a pool.

    Args:
        task: theirs.
        pool: folder of the pool.
        setting: where they will be played.
        teacher: the policy that labels.
        soft: whether its probabilities are kept.

    Raises:
        ValueError: if the pool's version or fields are others, or its labels of another kind.
    """
    from netllm_adapt import Pool
    from netllm_adapt.pool.parquet_format import VERSION, difference

    known = Pool(pool)
    told = known.info()
    if told["version"] < VERSION:
        raise ValueError(
            f"{pool}: must have version {VERSION} to be continued, got version {told['version']}. "
            "Collect it again, or leave --pool out."
        )
    environment = task.environment(
        setting, task.episodes(setting, "train", count=1, seed=0), seed=0, record=True
    )
    if differ := difference(_fields(task, environment), known.fields):
        raise ValueError(
            f"{pool}: must have the fields of setting {setting.name!r}, but of what is played "
            f"there {differ}. Give a pool of this setting, or leave --pool out."
        )
    fields, given = told["fields"], soft and hasattr(teacher, environment.soft_labels)
    kinds = {True: "probabilities", False: "answers"}
    wanted = f"the teacher's {kinds[given]}"
    if not told["labels"]:
        got, remedy = "none", "Collect it with `rl-collect --relabel`"
    elif (fields["labels"] != fields["actions"]) != given:
        got = kinds[not given]
        remedy = "Give --no-soft" if given and soft else "Give another --teacher"
    else:
        return
    raise ValueError(f"{pool}: must have {wanted} as labels, got {got}. {remedy}.")


def _fields(task: PoolTask, environment: Any) -> dict[str, Any]:
    """Type and shape of what the model sees of an environment at its first decision."""
    import numpy as np
    from netllm_adapt.pool.parquet_format import Field

    seen = {"reward": np.zeros(1, np.float32), **environment.observation()}
    return {name: Field.of(values) for name, values in task.seen(seen).items()}


def copy_pool(pool: Path, to: Path) -> None:
    """Copy a pool's episodes and where they are from; nothing if the copy is there already."""
    from netllm_adapt.files.writing import new_folder
    from netllm_adapt.pool.parquet_format import shards_of
    from netllm_adapt.pool.provenance import PROVENANCE

    if to.exists():
        return
    with new_folder(to) as work:
        for file in (*shards_of(pool), *pool.glob(PROVENANCE)):
            shutil.copyfile(file, work / file.name)


def pool_digest(pool: Path) -> str:
    """What tells the episodes of a pool from others', wherever its folder lies."""
    from netllm_adapt.files.digests import sha256
    from netllm_adapt.pool.parquet_format import shards_of

    return " ".join(sha256(shard)[:16] for shard in shards_of(pool))


def agreement(episodes: Iterable[Episode]) -> float | None:
    """The share of decisions that are what the label says; None where nothing can be compared.

    Of labels that weigh several answers it is the one of most weight.
    """
    import numpy as np

    same: list[np.ndarray] = []
    for one in episodes:
        if one.labels is None or (answers := _likeliest(one.labels, one.actions)) is None:
            return None
        same.append((answers == one.actions).reshape(len(answers), -1).all(axis=1))
    return float(np.concatenate(same).mean()) if same else None


def _likeliest(labels: np.ndarray, actions: np.ndarray) -> np.ndarray | None:
    """The answer that each label favours, shaped as actions; None if it is of no known kind."""
    import numpy as np

    if labels.shape == actions.shape:
        return labels
    if labels.ndim != actions.ndim + 1:
        return None
    if actions.ndim == 1:  # a probability for every answer
        return np.asarray(labels.argmax(axis=1))
    best = labels[..., -1].argmax(axis=1)  # answers with their weights at the end
    return np.asarray(labels[np.arange(len(labels)), best, :-1])
