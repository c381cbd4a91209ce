import numpy as np
import pytest
from netllm_baselines.abr import Bola


def test_utility_and_parameters_follow_from_ladder_and_capacity(synthetic):
    policy = Bola(synthetic)
    # By hand: g = ln(4300 / 300) / (60 / 10 - 1), V = 10 s / g.
    assert policy.g == pytest.approx(0.532518, abs=1e-6)
    assert policy.v_s == pytest.approx(18.77873, abs=1e-4)


def test_a_session_starts_at_the_level_that_the_throughput_allows(synthetic, observe):
    # 2 Mbit/s over 1.08 s are 2.16 without the round trip; 3.92 s of that carry 8.47 Mbit.
    # 4 s of 1.85 Mbit/s take 7.4 Mbit, of 2.85 Mbit/s 11.4.
    assert Bola(synthetic).act(observe(measured_mbps=2.0)).tolist() == [3]


@pytest.mark.parametrize("buffer_s", [8.0, 15.0, 22.0, 30.0, 40.0, 50.0, 59.0])
def test_a_long_run_follows_the_formula_of_the_paper(synthetic, observe, buffer_s):
    policy = Bola(synthetic)
    # A start at the lowest level leaves no placeholder; a long fast download then settles the rest.
    policy.act(observe(measured_mbps=0.2))
    seen = observe(measured_mbps=50.0, took_s=100.0, buffer_s=buffer_s, stall_s=100.0)
    seen["throughput_mbps"][:, -2] = 0.2
    rates = np.array(synthetic.video.rates_kbps)
    g, v_s = np.log(rates[-1] / rates[0]) / 5, 50 / np.log(rates[-1] / rates[0])
    score = (v_s * (1 + np.log(rates / rates[0]) + g) - buffer_s) / rates
    assert policy.act(seen).tolist() == [score.argmax()]


def test_a_short_buffer_holds_the_level_down(synthetic, observe):
    policy = Bola(synthetic)
    policy.act(observe(measured_mbps=2.0))
    seen = observe(measured_mbps=2.0, buffer_s=2.0, stall_s=0.0, level=3)
    seen["throughput_mbps"][:, -2] = 2.0
    # 0.9 * (2 - 0.08) s at 2.16 Mbit/s bring 3.73 Mbit: 4 s of 750 kbit/s, not of 1,200.
    assert policy.act(seen).tolist() == [1]
