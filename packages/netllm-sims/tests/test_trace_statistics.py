from dataclasses import replace

import numpy as np
import pytest
from netllm_sims.abr import CELLULAR, Trace, trace_statistics


def of_seconds(mbps, id="a"):
    return Trace(id, np.arange(len(mbps) + 1.0), np.array([mbps[0], *mbps]))


def test_statistics_are_those_of_a_hand_calculation():
    # a minute of 2 and 4 Mbit/s in turn with 3 s of outage, and 100 s of 1 Mbit/s
    swinging = [2.0, 4.0] * 28 + [2.0, 0.05, 0.0, 0.0]
    found = trace_statistics([of_seconds(swinging), of_seconds([1.0] * 100, "b")])
    total, squares = 28 * 6 + 2 + 0.05 + 100, 28 * 20 + 4 + 0.05**2 + 100
    assert found.mean_mbps == pytest.approx(total / 160)
    assert found.deviation_mbps == pytest.approx(np.sqrt(squares / 160 - (total / 160) ** 2))
    means = 170.05 / 60, 1.0
    assert found.between == pytest.approx((means[0] - means[1]) / (means[0] + means[1]))
    assert (found.outages, found.outage_s) == pytest.approx((3 / 160, 3.0))
    off = np.array(swinging) - means[0]
    of_one = off[1:] @ off[:-1] / (off @ off)
    assert found.after_1_s == pytest.approx((of_one + 1) / 2)  # a constant is like itself


def test_points_between_seconds_count_by_their_time():
    # 3 Mbit/s for the first quarter of each second, 1 Mbit/s for the rest of it
    time_s = np.concatenate([[0.0], np.ravel([[i + 0.25, i + 1.0] for i in range(90)])])
    mbps = np.array([3.0, *[3.0, 1.0] * 90])
    found = trace_statistics([Trace("a", time_s, mbps)])
    assert found.mean_mbps == pytest.approx(1.5)
    assert found.deviation_mbps < 1e-6
    assert found.outage_s == 1


def test_short_traces_do_not_count():
    long = of_seconds([1.0, 3.0] * 40)
    assert trace_statistics([long, of_seconds([9.0] * 59, "b")]) == trace_statistics([long])
    with pytest.raises(ValueError, match="a trace of at least 60 s, got none"):
        trace_statistics([of_seconds([9.0] * 59)])


@pytest.mark.parametrize(
    ("field", "value"),
    [("mean_mbps", 0.0), ("deviation_mbps", np.inf), ("outages", 1.5), ("after_1_s", -2.0)],
)
def test_numbers_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"`{field}` must"):
        replace(CELLULAR["ghent-4g"], **{field: value})
