import numpy as np
import pytest
from netllm_baselines.abr import Bola, Dynamic, Throughput
from netllm_sims.abr import rollout


def test_nine_tenths_of_the_throughput_bound_the_rate(synthetic, observe):
    # 1.08 s of which 0.08 s are the round trip: a link of 1.08 times the measured throughput.
    measured = np.array([0.1, 1.9033, 1.9034, 4.42, 4.43, 90.0])
    seen = observe(6, measured_mbps=measured)
    # 1.85 Mbit/s need 1.85 / 0.9 / 1.08 = 1.90329 measured, 4.3 Mbit/s 4.42387.
    assert Throughput(synthetic).act(seen).tolist() == [0, 3, 3, 4, 5, 5]
    assert Throughput(synthetic).act(observe(measured_mbps=1.9032)).tolist() == [2]


def test_the_slower_average_holds_the_estimate_down_after_a_burst(synthetic, observe):
    # Half-lives of 3 and 8 s: after 3 s of 1 Mbit/s and 3 s of 4 the averages are
    # (1/4 + 4/2) / (3/4) = 3 and, with k = 2^(-3/8), (k + 4) / (k + 1) = 2.694.
    policy = Throughput(synthetic, share=1.0)
    policy.act(observe(measured_mbps=1.0 * 2.92 / 3, took_s=3.0))
    seen = observe(measured_mbps=4.0 * 2.92 / 3, took_s=3.0)
    seen["throughput_mbps"][:, -2] = 1.0
    assert policy.act(seen).tolist() == [3]  # 1.85 to 2.85 Mbit/s


def test_dynamic_is_its_parts_on_either_side_of_the_threshold(synthetic):
    sessions = synthetic.sessions("test")[:20]
    run = rollout(Dynamic(synthetic), synthetic, sessions, record=True)
    parts = {"bola": Bola(synthetic), "throughput": Throughput(synthetic)}
    by_buffer = np.zeros(len(sessions), bool)
    taken = np.zeros(2, int)
    for step in range(run.actions.shape[1]):
        seen = {name: values[:, step] for name, values in run.observations.items()}
        answers = {name: policy.act(seen) for name, policy in parts.items()}
        by_buffer = seen["buffer_s"] >= np.where(by_buffer, 9.0, 18.0)
        expected = np.where(by_buffer, answers["bola"], answers["throughput"])
        assert np.array_equal(run.actions[:, step], expected)
        taken += [by_buffer.sum(), (~by_buffer).sum()]
    assert taken.min() > 50


@pytest.mark.parametrize("place", ["synthetic", "real"])
def test_dynamic_earns_more_than_either_of_its_parts(place, request):
    # Figure 9 of the paper: what each rule lacks the other has.
    chosen = request.getfixturevalue(place)
    sessions = chosen.sessions("test")
    both, *single = (
        rollout(policy(chosen), chosen, sessions).qoe.mean()
        for policy in (Dynamic, Bola, Throughput)
    )
    assert both > max(single)


def test_numbers_out_of_range_are_refused(synthetic):
    with pytest.raises(ValueError, match="`short_s` must be"):
        Dynamic(synthetic, short_s=20.0)
    with pytest.raises(ValueError, match="`share` must be > 0"):
        Throughput(synthetic, share=0.0)
