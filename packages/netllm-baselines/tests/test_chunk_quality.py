"""Planners optimise the QoE that the setting names, by the quality of single chunks too."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from netllm_baselines.abr import MPC, Hindsight, Soda
from netllm_baselines.abr._chunk_quality import ChunkQuality
from netllm_sims.abr import Session, Setting, Simulator, Trace, Video, rollout

RATES_KBPS = (400.0, 900.0, 2000.0)


def small(quality, seed=5):
    rng = np.random.default_rng(seed)
    sizes = np.array(RATES_KBPS) * 500 * rng.uniform(0.6, 1.5, (6, 1))
    numbers = np.cumsum(rng.uniform(0.5, 6, (6, 3)), axis=1) + rng.uniform(0, 8, (6, 1))
    video = Video(name="small", rates_kbps=RATES_KBPS, sizes_bytes=sizes, chunks=6, quality=numbers)
    return Setting(name="small", video=video, quality=quality, rebuffering=3.0)


def outcomes(setting, session, past, ahead):
    """QoE of every sequence of levels after some that were played."""
    futures = np.array(list(product(range(3), repeat=ahead)))
    trial = Simulator(setting, [session] * len(futures), dtype=np.float64)
    trial.reset()
    for level in past:
        trial.step(np.repeat(level, len(futures)))
    return futures, sum(trial.step(futures[:, i])[1] for i in range(ahead))


@pytest.mark.parametrize("quality", ["log", "table"])
def test_on_a_steady_link_mpc_finds_the_best_sequence(quality):
    setting = small(quality)
    trace = Trace(id="t", time_s=np.array([0.0, 1000.0]), bandwidth_mbps=np.full(2, 1.1))
    session = Session("s", trace)
    run = rollout(MPC(setting, horizon=3), setting, [session])
    for step in range(5):
        ahead = min(3, 5 - step)
        futures, values = outcomes(setting, session, run.actions[0, :step], ahead)
        chosen = values[futures[:, 0] == run.actions[0, step]].max()
        assert chosen == pytest.approx(values.max(), abs=1e-9)


@pytest.mark.parametrize("quality", ["log", "table"])
def test_nothing_earns_more_than_hindsight(quality):
    for seed in range(6):
        setting = small(quality, seed)
        rng = np.random.default_rng(seed)
        time_s = np.cumsum(rng.uniform(0.5, 3.0, 9))
        trace = Trace(id="t", time_s=time_s, bandwidth_mbps=rng.uniform(0.1, 2.5, 9))
        session = Session("s", trace)
        best = rollout(Hindsight(setting), setting, [session]).rewards.sum()
        assert best == pytest.approx(outcomes(setting, session, [], 5)[1].max(), abs=0.02)


def test_rows_are_those_of_the_last_and_the_coming_chunks(synthetic, observe):
    numbers = np.arange(49.0)[:, None] + np.arange(6) / 10
    video = replace(synthetic.video, quality=numbers[: len(synthetic.video.sizes_bytes)])
    setting = replace(synthetic, video=video, quality="table")
    rows = ChunkQuality(setting, 3)(observe(2, chunks_left=np.array([47.0, 2.0])))
    np.testing.assert_allclose(rows[:, :, 0], [[0, 1, 2, 3], [45, 46, 47, 47]])


def test_soda_weighs_a_level_by_the_quality_that_it_lacks(synthetic):
    # Logarithms bring the levels below the top closer to it: more buffer for the same loss.
    linear, log = (
        rollout(Soda(place), place, place.sessions("test")[:20])
        for place in (synthetic, replace(synthetic, quality="log"))
    )
    assert log.bitrate_mbps.mean() < linear.bitrate_mbps.mean()
