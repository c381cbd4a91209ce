"""A pool becomes a data set of Minari, and a pool again, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from netllm_adapt import Episode, Pool, PoolWriter, Ragged
from netllm_adapt.episodes import digest

minari = pytest.importorskip("minari")

from netllm_adapt.pool.minari import from_minari, to_minari  # noqa: E402


def make_episode(number: int, **changes: Any) -> Episode:
    rng = np.random.default_rng(number)
    steps = 3 + number
    about: dict[str, Any] = {
        "id": f"trace-{number}",
        "policy": ("bba", "ppo")[number % 2],
        "seed": 5 + number,
        "observations": {
            "buffer_s": rng.random(steps, np.float32),
            "sizes_mb": rng.random((steps, 2, 3)),
            "level": rng.integers(0, 6, steps),
            "late": rng.integers(0, 2, steps) > 0,
        },
        "actions": rng.integers(0, 6, steps),
        "rewards": rng.random(steps, np.float32),
        "labels": rng.random((steps, 6), np.float32),
        "meta": {"qoe": 1.5},
        "final": {
            "buffer_s": np.float32(1.5),
            "sizes_mb": rng.random((2, 3)),
            "level": 4,
            "late": True,
        },
        "ended": ("terminated", "truncated")[number % 2],
        "reason": "the video is over",
    }
    return Episode(**about | changes)


def write_pool(path: Path, episodes: list[Episode]) -> Pool:
    with PoolWriter(path, task="abr", setting="default", provenance={}) as writer:
        for episode in episodes:
            writer.add(episode)
    return Pool(path)


@pytest.mark.parametrize("labels", ["probabilities", "answers", "none"])
def test_a_pool_comes_back_bit_for_bit(tmp_path: Path, labels: str) -> None:
    kinds = {"answers": np.arange(3), "none": None}
    changes = {} if labels == "probabilities" else {"labels": kinds[labels]}
    several = [make_episode(0, **changes), *([] if changes else [make_episode(1)])]
    pool = write_pool(tmp_path / "pool", several)
    folder = to_minari(pool, tmp_path / "set")
    back = from_minari(folder, tmp_path / "back", task="abr", setting="default")
    assert digest(back) == digest(pool)
    for one, other in zip(back, pool, strict=True):
        assert (one.ended, one.reason, one.meta) == (other.ended, other.reason, other.meta)


def test_minari_itself_reads_the_set(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", [make_episode(0), make_episode(1)])
    held = minari.MinariDataset(to_minari(pool, tmp_path / "set", dataset_id="own/abr-v0"))
    assert (held.total_episodes, held.total_steps) == (2, 7)
    assert held.spec.dataset_id == "own/abr-v0"
    assert held.action_space.n == 6
    first, second = held.iterate_episodes()
    assert len(first.observations["level"]) == len(first.actions) + 1 == 4
    np.testing.assert_array_equal(first.rewards, pool[0].rewards)
    assert first.rewards.dtype == np.float32
    assert pool[0].final is not None
    np.testing.assert_array_equal(first.observations["sizes_mb"][-1], pool[0].final["sizes_mb"])
    assert first.terminations.tolist() == [False, False, True]
    assert not first.truncations.any()
    assert second.truncations.tolist() == [False, False, False, True]
    np.testing.assert_array_equal(first.infos["label"][:-1], pool[0].labels)


def test_a_set_that_others_made_becomes_a_pool(tmp_path: Path) -> None:
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (tmp_path / "theirs").mkdir()
    storage = MinariStorage.new(
        tmp_path / "theirs",
        observation_space=spaces.Box(-1, 1, (2,), np.float32),
        action_space=spaces.Box(-1, 1, (1,), np.float32),
        data_format="arrow",
    )
    storage.update_metadata({"dataset_id": "theirs/cart-v0", "algorithm_name": "expert"})
    seen = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    storage.update_episodes(
        [
            EpisodeBuffer(
                observations=seen,
                actions=np.zeros((3, 1), np.float32),
                rewards=np.array([0.0, 1.0, 2.0]),
                terminations=np.array([False, False, False]),
                truncations=np.array([False, False, True]),
            )
        ]
    )
    pool = from_minari(tmp_path / "theirs", tmp_path / "pool", task="cart")
    (episode,) = pool
    assert (episode.id, episode.policy) == ("theirs/cart-v0/0", "expert")
    assert episode.ended == "truncated"
    np.testing.assert_array_equal(episode.observations["observation"], seen[:3])
    assert episode.final is not None
    np.testing.assert_array_equal(episode.final["observation"], seen[3])
    assert pool.provenance["collections"][0]["source"] == "Minari theirs/cart-v0"


def test_what_minari_cannot_hold_is_refused(tmp_path: Path) -> None:
    unknown = write_pool(tmp_path / "unknown", [make_episode(0, final=None, ended="")])
    with pytest.raises(ValueError, match="'trace-0' does not tell: an earlier version"):
        to_minari(unknown, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    stages = {"stages": Ragged(np.zeros((3, 1)), np.array([0, 1, 1, 3]))}
    final = {"stages": np.zeros((0, 1))}
    ragged = write_pool(tmp_path / "any", [make_episode(0, observations=stages, final=final)])
    with pytest.raises(ValueError, match="but 'stages' holds any number of values"):
        to_minari(ragged, tmp_path / "set")


def test_other_folders_are_neither_read_nor_replaced(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", [make_episode(0)])
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "one.tex").touch()
    with pytest.raises(FileExistsError, match="thesis: must be new, empty or a data set of Minari"):
        to_minari(pool, tmp_path / "thesis")
    with pytest.raises(ValueError, match="thesis: must be a data set of Minari, but"):
        from_minari(tmp_path / "thesis", tmp_path / "new", task="abr")
    with pytest.raises(FileExistsError, match="pool: must be new or empty, got a folder"):
        from_minari(to_minari(pool, tmp_path / "set"), tmp_path / "pool", task="abr")
