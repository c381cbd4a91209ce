"""Rates of a token bucket, in a time of its own: what passes is what the trace's curve says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netllm.real.shaped_link import session_curve
from netllm.real.token_bucket import FRAME_BYTES, Steps
from netllm_sims.abr import Session, Trace, capacity_bytes


def passed(session, long_s, *, late_s=0.0):
    """When full packets leave the kernel's token bucket, in trace time, if some always wait.

    The bucket is that of Linux's `sch_tbf.c`: it fills at the rate, a packet leaves when it is in,
    and a change fills it.
    """
    steps, now_s, left = Steps(session), session.start_s, []
    while now_s < session.start_s + long_s:
        step = steps.at(now_s)
        steps.took(step, now_s, FRAME_BYTES * len(left))
        inside = float(step.bucket_bytes)
        while True:
            wait_s = max(0.0, FRAME_BYTES - inside) / step.rate_bytes_s
            if now_s + wait_s > step.until_s + late_s:
                break
            now_s, inside = now_s + wait_s, max(inside, FRAME_BYTES) - FRAME_BYTES
            left.append(now_s)
        now_s = step.until_s + late_s
    return np.array(left)


def due_bytes(session, first_s, end_s):
    rows = session_curve(session, packet_share=1.0)
    return float(np.diff(capacity_bytes(rows, np.array([first_s, end_s])))[0])


@st.composite
def sessions(draw):
    rates = draw(st.lists(st.floats(0.3, 10.0), min_size=2, max_size=20))
    lengths = draw(st.lists(st.floats(0.5, 4.0), min_size=len(rates), max_size=len(rates)))
    trace = Trace("t", np.append(0.0, np.cumsum(lengths)), np.append(1.0, rates))
    start_s = draw(st.floats(0, 0.99)) * trace.period_s
    return Session("s", trace, start_s=start_s)


@settings(max_examples=100)
@given(session=sessions(), late_s=st.floats(0, 0.002))
def test_over_any_5_s_what_passes_is_the_capacity_within_2_percent_and_two_packets(session, late_s):
    left = passed(session, 30.0, late_s=late_s)
    jump = np.ptp(session.trace.bandwidth_mbps[1:]) * 1e6 / 8 * late_s
    for first_s in session.start_s + np.arange(0.5, 24.0, 0.7):
        count = FRAME_BYTES * ((left > first_s) & (left <= first_s + 5.0)).sum()
        due = due_bytes(session, first_s, first_s + 5.0)
        assert count == pytest.approx(due, abs=0.02 * due + 2 * FRAME_BYTES + 2 * jump)


@settings(max_examples=100)
@given(session=sessions(), late_s=st.floats(0, 0.05))
def test_changes_that_come_late_do_not_add_up(session, late_s):
    left = passed(session, 60.0, late_s=late_s)
    due = due_bytes(session, session.start_s, left[-1])
    most = session.trace.bandwidth_mbps[1:].max() * 1e6 / 8
    assert FRAME_BYTES * len(left) == pytest.approx(due, abs=0.01 * due + 5 * most * late_s)


def test_in_an_outage_next_to_nothing_passes_and_what_did_is_made_up_for():
    trace = Trace("gap", np.array([0.0, 2, 12, 20]), np.array([9.0, 4, 0, 4]))
    left = passed(Session("s", trace), 20.0)
    assert ((left > 2.01) & (left < 12)).sum() <= 2
    assert FRAME_BYTES * len(left) == pytest.approx(10 * 4e6 / 8, rel=0.01)


def test_points_that_are_close_together_are_taken_together():
    time_s = np.arange(0.0, 5.0, 0.01)
    trace = Trace("fine", time_s, np.where(np.arange(len(time_s)) % 2, 1.0, 3.0))
    step = Steps(Session("s", trace)).at(0.0)
    assert step.until_s == pytest.approx(0.2)
    assert step.rate_bytes_s == pytest.approx(2e6 / 8, rel=0.1)


def test_a_trace_goes_on_from_its_beginning():
    trace = Trace("t", np.array([0.0, 1, 2]), np.array([1.0, 1, 2]))
    steps = Steps(Session("s", trace, start_s=1.5))
    assert [steps.at(now_s).until_s for now_s in (1.5, 2.0, 2.5, 101.0)] == [2.0, 3.0, 3.0, 102.0]
