import json

import numpy as np
import pytest
from netllm_sims.abr import Session, Setting, Trace, Video, p1203, rollout

SIZES = np.array([[50e3, 200e3], [60e3, 250e3], [40e3, 240e3]])
SIZE_NAMES = ("640x360", "1280x720")


class Fixed:
    """Level 1, then level 0."""

    def reset(self, seed):
        self._levels = iter([1, 0])

    def act(self, observation):
        return np.full(len(observation["level"]), next(self._levels))


@pytest.fixture(scope="module")
def setting():
    video = Video(name="v", rates_kbps=(200.0, 1000.0), sizes_bytes=SIZES, chunk_s=2.0, chunks=3)
    return Setting(name="own", video=video, packet_share=1.0, rtt_s=0.0)


def played(setting, **options):
    trace = Trace(id="t", time_s=np.array([0.0, 100.0]), bandwidth_mbps=np.full(2, 0.4))
    return rollout(Fixed(), setting, [Session("s", trace)], **options)


def test_segments_and_stalls_are_those_of_a_calculation_by_hand(setting):
    # 0.4 Mbit/s are 50,000 bytes/s: the first chunk takes 1 s, the second 5 s with 2 s in the
    # buffer, so 3 s stall at media time 2 s; the third 0.8 s.
    found = json.loads(
        json.dumps(p1203(played(setting, record=True), 0, setting, resolutions=SIZE_NAMES))
    )
    segments = found["I13"]["segments"]
    assert [one["bitrate"] for one in segments] == pytest.approx([200.0, 1000.0, 160.0])
    assert [one["start"] for one in segments] == [0.0, 2.0, 4.0]
    assert [one["resolution"] for one in segments] == ["640x360", "1280x720", "640x360"]
    assert np.array(found["I23"]["stalling"]) == pytest.approx(np.array([[0.0, 1.0], [2.0, 3.0]]))


def test_the_wait_for_the_first_chunk_is_known_only_where_it_was_recorded(setting):
    found = p1203(played(setting), 0, setting, resolutions=SIZE_NAMES)
    assert np.array(found["I23"]["stalling"]) == pytest.approx(np.array([[2.0, 3.0]]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"resolutions": ("640-360", "1280x720")}, "`resolutions` must be like 1280x720, got '640"),
        ({"resolutions": "ab"}, "`resolutions` must be like 1280x720, got 'a'"),
        ({"display": "full"}, "`display` must be like 1280x720, got 'full'"),
        ({"codec": "h.264"}, "Unknown value of `codec` 'h.264'. Did you mean h264"),
        ({"device": "tv"}, "Unknown value of `device` 'tv'"),
        ({"fps": float("nan")}, "`fps` must be > 0 and at most 1000 per second, got nan"),
    ],
)
def test_what_the_recommendation_does_not_know_is_refused(setting, wrong, says):
    with pytest.raises(ValueError, match=says):
        p1203(played(setting), 0, setting, **{"resolutions": SIZE_NAMES} | wrong)


def test_a_resolution_too_few_is_refused(setting):
    with pytest.raises(ValueError, match="each of the 2 levels, got 1"):
        p1203(played(setting), 0, setting, resolutions=["640x360"])
