import numpy as np
import pytest
from netllm_baselines.abr import L2A, Bola, LoLPlus, Throughput
from netllm_sims.abr import Session, Trace, rollout


def near(seen, *, latency_s=1.5, speed=1.0):
    """What players near the live edge see besides."""
    batch = len(seen["level"])
    sizes = seen["sizes_mb"] / 8  # chunks of 0.5 s
    edge = {"live_latency_s": np.full(batch, latency_s), "speed": np.full(batch, speed)}
    return seen | edge | {"sizes_mb": sizes}


def test_the_link_bears_the_rates_within_its_throughput(live, observe):
    measured = np.array([0.1, 0.8, 1.3, 2.0, 3.0, 9.0])
    seen = near(observe(6, measured_mbps=measured, buffer_s=1.2, stall_s=0.0))
    assert LoLPlus(live).act(seen).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("mbps", "level"), [(0.9, 1), (1.5, 2), (2.2, 3), (3.5, 4), (9.0, 5)])
def test_on_a_steady_link_it_plays_the_highest_rate_that_the_link_bears(live, mbps, level):
    steady = Session("s", Trace("s", np.array([0.0, 100.0]), np.array([0.0, mbps / 0.95])))
    run = rollout(LoLPlus(live), live, [steady])
    assert (run.actions[0, 10:] == level).all()
    assert run.rebuffer_s[0, 10:].max() == 0
    assert run.live_latency_s[0, 10:].mean() == pytest.approx(1.5, abs=0.1)


def test_a_level_that_brought_stalls_is_left(live, observe):
    # The map learns at once here: the neuron of level 3 stands for two seconds without playback.
    def second(stall_s):
        policy = LoLPlus(live, rate=1.0)
        seen = near(observe(measured_mbps=2.0, buffer_s=1.2, stall_s=0.0, level=3))
        policy.act(seen)
        seen["throughput_mbps"][:, -2] = 2.0
        return policy.act(seen | {"stall_s": np.array([stall_s])})[0]

    assert second(0.0) == 3
    assert second(2.0) < 3


def test_a_chunk_that_would_stall_is_not_chosen_where_another_neuron_wins(live, observe):
    # 1.2 Mbit/s over 1.25 take 0.48 s: with 0.2 s of buffer the neuron nearest by itself stalls.
    seen = near(observe(measured_mbps=1.25, buffer_s=0.2, stall_s=0.0, level=0), latency_s=3.0)
    assert LoLPlus(live).act(seen)[0] < 2
    assert LoLPlus(live).act(seen | {"buffer_s": np.array([1.2])})[0] == 2


@pytest.mark.parametrize(
    ("place", "rivals"), [("live", [Throughput]), ("real_live", [Throughput, Bola, L2A])]
)
def test_it_earns_more_than_other_rules(place, rivals, request):
    # The paper's figures: more QoE than dash.js's rules and L2A-LL, on recorded bandwidths.
    chosen = request.getfixturevalue(place)
    sessions = chosen.sessions("test")
    ours, *others = (rollout(policy(chosen), chosen, sessions) for policy in (LoLPlus, *rivals))
    assert ours.qoe.mean() > max(other.qoe.mean() for other in others)
    assert ours.live_latency_s.mean() < 1.7


def test_video_on_demand_is_refused(synthetic):
    with pytest.raises(ValueError, match="needs a live setting, but 'synthetic'"):
        LoLPlus(synthetic)


def test_numbers_out_of_range_are_refused(live):
    with pytest.raises(ValueError, match="must be > 0"):
        LoLPlus(live, rate=0.0)
