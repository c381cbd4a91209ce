import numpy as np
import pytest
from netllm_sims.abr import GENET_RANGES, genet_trace, markov_trace, vbr_video


@pytest.mark.parametrize("make", [genet_trace, markov_trace])
def test_a_seed_fixes_the_trace(make):
    assert make(5).digest == make(5).digest == make(np.random.default_rng(5)).digest
    assert make(5).digest != make(6).digest


@pytest.mark.parametrize("name", GENET_RANGES)
def test_genet_traces_keep_to_their_published_definition(name):
    low, high, change = GENET_RANGES[name]
    for seed in range(20):
        trace = genet_trace(seed, low_mbps=low, high_mbps=high, change_points=change)
        gaps_s = np.diff(trace.time_s)
        assert 330 <= trace.period_s < 333.5
        assert gaps_s.min() >= 0.1
        assert gaps_s.max() <= 3.5
        assert trace.bandwidth_mbps == pytest.approx(np.round(trace.bandwidth_mbps, 2))
        assert min(low[0], high[0]) <= trace.bandwidth_mbps.min()
        assert trace.bandwidth_mbps.max() <= max(low[1], high[1])


def test_genet_bandwidth_stays_for_at_most_t_points():
    trace = genet_trace(0, low_mbps=(0, 0), high_mbps=(1000, 1000), change_points=(3, 3))
    changes = np.flatnonzero(np.diff(trace.bandwidth_mbps[1:])) + 1
    held = np.diff(np.concatenate([[0], changes]))
    assert set(held.tolist()) == {1, 2, 3}


def test_a_genet_trace_without_bandwidth_gets_a_little():
    trace = genet_trace(0, low_mbps=(0, 0), high_mbps=(0, 0))
    assert np.count_nonzero(trace.bandwidth_mbps) == 1


def test_markov_traces_stay_in_range_and_move_in_time():
    traces = [markov_trace(seed) for seed in range(100)]
    bandwidth = np.array([trace.bandwidth_mbps for trace in traces])
    assert bandwidth.shape == (100, 321)
    assert bandwidth.min() >= 0.2
    assert bandwidth.max() <= 6.0
    deviation = bandwidth - bandwidth.mean(1, keepdims=True)
    correlation = (deviation[:, 1:] * deviation[:, :-1]).sum(1) / (deviation**2).sum(1)
    assert np.median(correlation) > 0.5


def test_a_generated_video_varies_together_around_its_ladder():
    video = vbr_video(0, chunks=2000)
    assert vbr_video(0, chunks=2000).sizes_bytes.tolist() == video.sizes_bytes.tolist()
    assert video.sizes_bytes.shape == (2001, 6)
    factor = np.log(video.sizes_bytes / (np.array(video.rates_kbps) * 4 * 125))
    assert np.abs(factor.mean(0)).max() < 0.01
    assert factor.std(0) == pytest.approx(0.0985, abs=0.01)  # sqrt(0.09**2 + 0.04**2)
    assert np.corrcoef(factor.T).min() > 0.75


def test_a_generated_video_follows_ladder_and_chunk_length():
    video = vbr_video(1, rates_kbps=(100.0, 900.0), chunk_s=2.0, chunks=10)
    assert video.sizes_bytes.shape == (11, 2)
    assert video.sizes_bytes[:, 1].mean() == pytest.approx(900 * 2 * 125, rel=0.1)
