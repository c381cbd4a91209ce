import numpy as np
import pytest
from netllm_baselines.abr import Steady

# Chunks of 4 s of a ladder of 0.3, 0.75, 1.2, 1.85, 2.85 and 4.3 Mbit/s; the numbers are by hand.


def level(synthetic, observe, **seen):
    return Steady(synthetic).act(observe(**seen)).tolist()


def test_it_goes_up_by_one_where_the_link_bears_it_and_the_buffer_is_full(synthetic, observe):
    borne = {"level": np.full(3, 1), "measured_mbps": 1.09}  # 0.9 x 1.2 = 1.08
    assert level(synthetic, observe, batch=3, buffer_s=[11.9, 12, 40], **borne) == [1, 2, 2]
    assert level(synthetic, observe, level=1, buffer_s=40, measured_mbps=1.07) == [1]
    assert level(synthetic, observe, level=5, buffer_s=40, measured_mbps=50) == [5]


def test_it_goes_down_to_what_arrives_within_a_share_of_the_buffer(synthetic, observe):
    # Within 0.6 x 8 s, 2 Mbit/s bring 9.6 Mbit: 4 s at up to 2.4 Mbit/s.
    assert level(synthetic, observe, level=4, buffer_s=8, measured_mbps=2) == [3]
    assert level(synthetic, observe, level=5, buffer_s=0.1, measured_mbps=2) == [0]


def test_the_mean_is_harmonic_over_what_was_measured(synthetic, observe):
    seen = observe(level=2, buffer_s=40)
    seen["throughput_mbps"][0, -2:] = [1.0, 3.0]  # 1.5 < 0.9 x 1.85
    assert Steady(synthetic).act(seen).tolist() == [2]
    seen["throughput_mbps"][0, -3] = 3.0  # 1.8
    assert Steady(synthetic).act(seen).tolist() == [3]


def test_it_stays_where_nothing_is_known_of_the_link(synthetic, observe):
    assert level(synthetic, observe, level=3, buffer_s=4, measured_mbps=0) == [3]


@pytest.mark.parametrize("wrong", [{"bears": 0.0}, {"full_s": -1.0}, {"share": 1.5}])
def test_numbers_out_of_range_are_refused(synthetic, wrong):
    with pytest.raises(ValueError, match="must be > 0"):
        Steady(synthetic, **wrong)
