"""CUBIC does what RFC 9438 says."""

import numpy as np
import pytest
from netllm_sims.cc.compiled_cubic import BETA, MOST, RECOVERY_S, THRESHOLD, WINDOW, C, cubic, fresh


def reduced(most, rtt_s, interval_s):
    """A flow that has just lost something at a window of `most`, its recovery over."""
    flow = fresh()
    flow[WINDOW], flow[THRESHOLD] = most, most
    cubic(flow, 1.0, 1.0, rtt_s, interval_s)
    flow[RECOVERY_S] = 0.0
    return flow


def test_the_window_between_losses_follows_the_cubic():
    # section 4.2: W(t) = C (t - K)^3 + Wmax with K = cbrt(Wmax (1 - beta) / C), 9.1 s for 1,000
    rtt_s, interval_s, most = 0.1, 0.01, 1000.0
    flow = reduced(most, rtt_s, interval_s)
    assert flow[WINDOW] == pytest.approx(BETA * most)
    k_s = np.cbrt(most * (1 - BETA) / C)
    for number in range(1, 1_400):
        cubic(flow, flow[WINDOW] * interval_s / rtt_s, 0.0, rtt_s, interval_s)
        wanted = C * (number * interval_s - k_s) ** 3 + most
        assert flow[WINDOW] == pytest.approx(wanted, rel=0.01)


def test_a_flow_of_short_round_trips_grows_as_reno_does():
    # section 4.3: 0.53 packets per round trip until the window before the loss, then 1
    rtt_s, interval_s, most = 0.005, 0.0025, 20.0
    flow = reduced(most, rtt_s, interval_s)
    windows = []
    for _ in range(60):
        before = flow[WINDOW]
        cubic(flow, before * interval_s / rtt_s, 0.0, rtt_s, interval_s)
        windows.append((before, (flow[WINDOW] - before) * 2))
    slow = [rise for before, rise in windows[1:] if before < most - 1]
    fast = [rise for before, rise in windows if before > most + 1]
    assert slow == pytest.approx([3 * (1 - BETA) / (1 + BETA)] * len(slow), rel=0.1)
    assert fast == pytest.approx([1.0] * len(fast), rel=0.1)
    assert len(slow) > 15
    assert len(fast) > 15


@pytest.mark.parametrize("p", [1e-4, 1e-5])
def test_the_mean_window_is_that_of_the_response_function(p):
    # section 5.1, equation 6 with C = 0.4 and beta = 0.7: 1.054 (RTT / p)^0.75
    rtt_s, interval_s = 0.1, 0.05
    flow, since, windows = fresh(), 0.0, []
    flow[THRESHOLD] = 50.0
    for _ in range(40_000):
        since += (acked := flow[WINDOW] * interval_s / rtt_s)
        lost = float(since >= 1 / p)
        since = 0.0 if lost else since
        cubic(flow, acked, lost, rtt_s, interval_s)
        windows.append(flow[WINDOW])
    assert np.mean(windows[10_000:]) == pytest.approx(1.054 * (rtt_s / p) ** 0.75, rel=0.1)


def test_losses_of_one_round_trip_are_one_event_and_a_lower_peak_gives_way():
    flow = reduced(100.0, 0.1, 0.05)
    flow[RECOVERY_S] = 0.1
    cubic(flow, 1.0, 5.0, 0.1, 0.05)
    assert flow[WINDOW] == pytest.approx(70.0)
    flow[RECOVERY_S] = 0.0
    cubic(flow, 1.0, 5.0, 0.1, 0.05)
    assert flow[WINDOW] == pytest.approx(49.0)
    assert flow[MOST] == pytest.approx(70.0 * (1 + BETA) / 2)  # section 4.7


def test_slow_start_adds_what_is_acknowledged():
    flow = fresh()
    rate, window = cubic(flow, 10.0, 0.0, 0.1, 0.05)
    assert window == 20 * 1500
    assert rate == pytest.approx(2 * 20 * 1500 / 0.1)
