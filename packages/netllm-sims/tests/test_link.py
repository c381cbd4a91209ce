import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.abr import Trace, capacity_bytes, curve, curves, delivery_s

STEP = Trace("step", np.array([0.0, 2, 3, 5]), np.array([9.0, 8, 0, 4]))


def test_the_curve_lists_segments_and_closes_with_the_period():
    # by hand: 8 Mbit/s are 1e6 bytes/s, of which 95 % are payload; the first bandwidth is not used
    rows = curve(STEP)
    assert rows[:, 0].tolist() == [0, 2, 3, 5]
    assert rows[:, 1] == pytest.approx([0, 1.9e6, 1.9e6, 2.85e6])
    assert rows[:, 2] == pytest.approx([0.95e6, 0, 0.475e6, 0])
    assert rows[:, 3] == pytest.approx([1 / 0.95e6, 0, 1 / 0.475e6, 0])


def test_capacity_counts_whole_periods():
    rows = curve(STEP, packet_share=1.0)
    time_s = np.array([0.0, 1, 2.5, 4, 5, 11])
    assert capacity_bytes(rows, time_s) == pytest.approx([0, 1e6, 2e6, 2.5e6, 3e6, 7e6])


def test_bytes_are_delivered_when_the_capacity_reaches_them():
    # by hand, 1e6 bytes/s for 2 s, an outage of 1 s, 0.5e6 bytes/s for 2 s, and again
    rows = curve(STEP, packet_share=1.0)
    count = np.array([0.0, 1e6, 2e6, 2.5e6, 4e6])
    assert delivery_s(rows, count) == pytest.approx([0, 1, 2, 4, 6])


@given(st.floats(0, 1e8))
def test_delivery_is_the_inverse_of_capacity(count):
    rows = curve(STEP)
    assert capacity_bytes(rows, delivery_s(rows, np.array(count))) == pytest.approx(count, abs=1e-3)


def test_curves_lie_under_one_another():
    table, first, last = curves([STEP, STEP])
    assert (first.tolist(), last.tolist()) == ([0, 4], [3, 7])
    assert table[4:].tolist() == curve(STEP).tolist()


@st.composite
def rising(draw):
    steps = draw(st.lists(st.floats(0.0, 5.0), min_size=2, max_size=60))
    return np.cumsum(steps)


@given(rising(), st.integers(0, 59), st.floats(0, 1))
def test_galloping_finds_what_a_plain_search_finds(values, start, share):
    from netllm_sims.abr.compiled_simulator import seek

    table = np.column_stack([values, values])
    start = min(start, len(values) - 2)
    value = values[start] + share * (values[-1] - values[start])
    if value >= values[-1]:
        return
    found = seek(table, 1, start, len(values) - 1, value)
    assert found == np.searchsorted(values, value, side="right") - 1
