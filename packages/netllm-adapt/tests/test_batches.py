"""Segments never cross an episode, and every decision is learned exactly once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from adapt_parts import make_episode
from hypothesis import given
from hypothesis import strategies as st
from netllm_adapt.batches import Segment, SegmentedEpisodes, collate, plan
from netllm_adapt.pool import Episode, Pool, PoolWriter, reader


@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=30), min_size=1, max_size=5),
    segment=st.integers(1, 40),
    window=st.integers(1, 9),
)
def test_every_step_is_learned_once_after_at_most_one_window(
    sizes: list[list[int]], segment: int, window: int
) -> None:
    segments = plan([np.array(s) for s in sizes], segment=segment, window=window)
    learned = [(s.episode, t) for s in segments for t in range(s.start, s.stop)]
    assert sorted(learned) == [(e, t) for e, n in enumerate(sizes) for t in range(len(n))]
    for s in segments:
        tokens = sizes[s.episode][s.start : s.stop]
        assert s.context == max(0, s.start - window)
        assert sum(tokens) <= segment or len(tokens) == 1
        following = sizes[s.episode][s.stop : s.stop + 1]
        assert not following or sum(tokens) + following[0] > segment


def test_rows_of_a_large_pool_come_once_each_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_each(episode: Episode) -> np.ndarray:
        return np.ones(len(episode.rewards), int)

    with PoolWriter(tmp_path, task="any", setting="", provenance={}) as writer:
        for number in range(80):
            writer.add(make_episode(2 + number % 5, seed=number))
    monkeypatch.setattr(reader, "KEPT", 1)
    rows = SegmentedEpisodes(Pool(tmp_path), size=one_each, segment=1, window=2)
    drawn = rows.shuffled(np.random.default_rng(0))
    assert sorted(drawn) == list(range(sum(2 + number % 5 for number in range(80))))
    ends = np.cumsum([2 + number % 5 for number in range(80)])
    groups = np.searchsorted(ends, drawn, side="right") // 16
    assert (np.diff(groups) != 0).sum() == 4
    assert not np.array_equal(drawn, rows.shuffled(np.random.default_rng(1)))


def test_returns_are_summed_before_the_episode_is_cut() -> None:
    episode = make_episode(10, seed=0)
    batch = collate([episode], [Segment(0, 2, 5, 8)])
    expected = [float(episode.rewards[t:].sum()) for t in range(2, 8)]
    np.testing.assert_allclose(batch.returns[0].numpy(), expected, rtol=1e-5)
    assert batch.learn[0].tolist() == [False] * 3 + [True] * 3


def test_rows_are_padded_behind_and_padding_is_not_learned() -> None:
    episodes = [make_episode(4, seed=0), make_episode(7, seed=1)]
    batch = collate(episodes, [Segment(0, 0, 0, 4), Segment(1, 0, 0, 7)])
    assert batch.learn.sum(1).tolist() == [4, 7]
    assert torch.equal(batch.observations["x"][0, 4:], torch.zeros(3, 2))
    np.testing.assert_array_equal(batch.observations["x"][1].numpy(), episodes[1].observations["x"])


@pytest.mark.parametrize("field", ["actions", "rewards", "labels", "x"])
def test_episodes_whose_fields_differ_in_their_steps_are_named(field: str) -> None:
    broken = make_episode(7, seed=1)
    if field == "x":
        broken.observations = {**broken.observations, "x": broken.observations["x"][:5]}
    else:
        setattr(broken, field, broken.actions[:5].astype(np.float32))

    def sizes(episode: Episode) -> np.ndarray:
        return np.ones(len(episode.rewards), int)

    with pytest.raises(ValueError, match=r"episode 'episode-1': .* one entry per reward, [57],"):
        SegmentedEpisodes([make_episode(4, seed=0), broken], size=sizes, segment=8, window=2)


def test_labels_are_the_actions_unless_the_pool_has_better_ones() -> None:
    episode = make_episode(4, seed=0)
    plain = collate([episode], [Segment(0, 0, 0, 4)])
    assert torch.equal(plain.labels, plain.actions)
    episode.labels = (episode.actions + 1) % 4
    relabelled = collate([episode], [Segment(0, 0, 0, 4)])
    assert torch.equal(relabelled.labels, (plain.actions + 1) % 4)
