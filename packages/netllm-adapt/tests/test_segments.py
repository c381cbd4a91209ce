"""Segments never cross an episode, and every decision is learned exactly once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapt_parts import make_episode
from hypothesis import given
from hypothesis import strategies as st
from netllm_adapt.segments import Segment, collate, plan, steps_per_segment


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    steps=st.integers(1, 12),
    window=st.integers(1, 9),
)
def test_every_step_is_learned_once_after_at_most_one_window(
    lengths: list[int], steps: int, window: int
) -> None:
    segments = plan(lengths, steps=steps, window=window)
    learned = [(s.episode, t) for s in segments for t in range(s.start, s.stop)]
    assert sorted(learned) == [(e, t) for e, n in enumerate(lengths) for t in range(n)]
    assert all(s.context == max(0, s.start - window) for s in segments)
    assert all(s.stop - s.start <= steps for s in segments)


def test_a_segment_too_short_for_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step of 8 tokens, got segment=7"):
        steps_per_segment(7, 8)


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


def test_labels_are_the_actions_unless_the_pool_has_better_ones() -> None:
    episode = make_episode(4, seed=0)
    plain = collate([episode], [Segment(0, 0, 0, 4)])
    assert torch.equal(plain.labels, plain.actions)
    episode.labels = (episode.actions + 1) % 4
    relabelled = collate([episode], [Segment(0, 0, 0, 4)])
    assert torch.equal(relabelled.labels, (plain.actions + 1) % 4)
