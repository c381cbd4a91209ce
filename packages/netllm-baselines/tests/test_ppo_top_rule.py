"""The teacher that dares the top level."""

from collections.abc import Callable

import numpy as np
import pytest
from netllm_baselines.abr.ppo import PPO
from netllm_baselines.abr.ppo_top_rule import TopRule
from netllm_sims.abr import LADDER_KBPS, Setting
from numpy import ndarray

Observe = Callable[..., dict[str, ndarray]]


def rich(observe: Observe, *, mbps: float, buffer_s: float, level: int, left: int = 30) -> dict:
    """A player in steady flow: six chunks of `level` at one throughput."""
    size_mb = LADDER_KBPS[level] * 4 / 8000
    return observe(
        throughput_mbps=np.full(6, mbps),
        delay_s=np.full(6, 8 * size_mb / mbps),
        rate_kbps=LADDER_KBPS[level],
        level=level,
        buffer_s=buffer_s,
        stall_s=0.0,
        chunks_left=left,
    )


def test_the_top_is_taken_where_ppo_stops_below_it_and_the_link_bears_it(
    synthetic: Setting, observe: Observe
) -> None:
    seen = rich(observe, mbps=5.0, buffer_s=30.0, level=4)
    assert PPO(synthetic).act(seen).tolist() == [4]
    assert TopRule(synthetic).act(seen).tolist() == [5]
    for held in (
        rich(observe, mbps=5.0, buffer_s=11.0, level=4),  # a buffer below the first pair's
        rich(observe, mbps=2.5, buffer_s=40.0, level=4),  # less than .6 of 4.3 Mbit/s
        rich(observe, mbps=5.0, buffer_s=30.0, level=4, left=1),
    ):
        assert (TopRule(synthetic).act(held) == PPO(synthetic).act(held)).all()


def test_the_top_is_kept_while_throughput_and_buffer_last(
    synthetic: Setting, observe: Observe
) -> None:
    rule = TopRule(synthetic)
    assert rule.act(rich(observe, mbps=4.0, buffer_s=9.0, level=5)).tolist() == [5]
    assert rule.act(rich(observe, mbps=2.2, buffer_s=17.0, level=5)).tolist() == [5]
    assert rule.act(rich(observe, mbps=2.2, buffer_s=9.0, level=5)).tolist() != [5]


def test_the_probabilities_sum_to_one(synthetic: Setting, observe: Observe) -> None:
    for buffer_s in (2.0, 14.0, 40.0):
        seen = rich(observe, mbps=5.0, buffer_s=buffer_s, level=4)
        assert TopRule(synthetic).probabilities(seen).sum() == pytest.approx(1.0)
