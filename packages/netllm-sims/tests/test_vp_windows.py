"""Laws of the windows that are cut from a trajectory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.vp import Trajectory, cut


def counting(length, breaks=()):
    """A trajectory whose yaw is the number of the point."""
    numbers = np.arange(length, dtype=float)
    return Trajectory(
        "v", "u", numbers / 5, np.stack([0 * numbers] * 2 + [numbers], -1), None, breaks
    )


@given(
    st.integers(0, 300),
    st.integers(1, 20),
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(0, 30),
    st.integers(0, 30),
    st.lists(st.integers(1, 299), max_size=3),
)
def test_windows_are_consecutive_points_that_cross_neither_end_nor_break(
    length, history, horizon, stride, head, tail, breaks
):
    trim = {"trim_head": history + head, "trim_tail": horizon - 1 + tail}
    where = tuple(sorted(point for point in breaks if point < length))
    clip = cut(counting(length, where), history=history, horizon=horizon, stride=stride, **trim)
    # the published rule, one window at a time
    wanted = [
        t
        for t in range(trim["trim_head"], length - trim["trim_tail"], stride)
        if not any(t - history < point < t + horizon for point in where)
    ]
    assert clip.history_deg.shape == (len(wanted), history, 3)
    assert clip.future_deg.shape == (len(wanted), horizon, 3)
    for window, t in enumerate(wanted):
        assert clip.history_deg[window, :, 2].tolist() == list(range(t - history, t))
        assert clip.future_deg[window, :, 2].tolist() == list(range(t, t + horizon))
        assert clip.time_s[window] == (t - 1) / 5


@pytest.mark.usefixtures("unchecked_shapes")
def test_arrays_that_do_not_belong_together_are_an_error():
    with pytest.raises(ValueError, match=r"must be \(time, 3\) for as many times, got \(5, 3\)"):
        Trajectory("v", "u", np.arange(4.0), np.zeros((5, 3)))
