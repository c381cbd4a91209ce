"""What is known beside a window: the viewer's earlier points, and earlier viewers."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.vp import Env, Trajectory, cut, setting
from netllm_sims.vp.geometry import wrap_deg
from netllm_sims.vp.side_information import Crowd, CrowdShown

WINDOWS = {"history": 3, "horizon": 4, "stride": 2, "trim_head": 5, "trim_tail": 3}


def counting(length, user="u", *, first=0.0, breaks=(), begin_s=0.0):
    """A trajectory whose yaw is the number of the point, from `first` on."""
    numbers = np.arange(length, dtype=float)
    angles = np.stack([0 * numbers] * 2 + [first + numbers], -1)
    return Trajectory("v", user, begin_s + numbers / 5, angles, None, breaks)


@given(st.integers(20, 60), st.integers(1, 40), st.lists(st.integers(1, 59), max_size=2))
def test_memory_is_the_recording_back_to_its_begin_or_to_a_break(length, memory, breaks):
    where = tuple(sorted({point for point in breaks if point < length}))
    clip = cut(counting(length, breaks=where), memory=memory, **WINDOWS)
    fields = clip.fields(slice(None))
    for window, history in enumerate(clip.history_deg):
        oldest = int(history[0, 2])
        begun = max([0, *(point for point in where if point <= oldest)])
        wanted = [point for point in range(oldest - memory, oldest) if point >= begun]
        known = fields["memory_known"][window]
        assert known.sum() == len(wanted)
        assert known[memory - len(wanted) :].all()
        assert fields["memory_deg"][window, known, 2].tolist() == wanted
        assert not fields["memory_deg"][window, ~known].any()


def test_the_crowd_is_seen_at_the_windows_own_times_and_is_never_the_viewer():
    viewers = [counting(40, "a", first=50), counting(40, "u"), counting(40, "b", first=90)]
    crowd = CrowdShown(4, Crowd.of(viewers, rate_hz=5.0))
    clip = cut(counting(40), crowd=crowd, **WINDOWS)
    fields = clip.fields(slice(None))
    assert fields["crowd_known"].all(axis=0).tolist() == [True, True, False, False]
    own = np.concatenate([clip.history_deg, clip.future_deg], axis=1)
    for number, first in ((0, 50), (1, 90)):
        np.testing.assert_allclose(
            fields["crowd_deg"][:, number], own + np.array([0, 0, first]), rtol=0, atol=1e-9
        )
    assert not fields["crowd_deg"][:, 2:].any()


def test_no_more_viewers_are_shown_than_asked_for():
    viewers = [counting(40, name) for name in "abc"]
    clip = cut(counting(40), crowd=CrowdShown(2, Crowd.of(viewers, rate_hz=5.0)), **WINDOWS)
    fields = clip.fields(slice(0, 1))
    assert fields["crowd_deg"].shape == (1, 2, 7, 3)
    assert fields["crowd_known"].all()


def test_a_viewer_who_was_not_recorded_all_the_time_is_unknown():
    late = counting(40, "late", begin_s=2.0)
    numbers = np.arange(40)
    halting = replace(counting(40, "halting"), times_s=numbers / 5 + 2.0 * (numbers >= 20))
    crowd = Crowd.of([counting(40, "all"), late, halting], rate_hz=5.0)
    clip = cut(counting(40), crowd=CrowdShown(3, crowd), **WINDOWS)
    known = clip.fields(slice(None))["crowd_known"]
    first = clip.history_deg[:, 0, 2]
    last = clip.future_deg[:, -1, 2]
    assert known[:, 0].all()
    assert known[:, 1].tolist() == (first >= 10).tolist()
    assert known[:, 2].tolist() == ((last < 20) | (first >= 30)).tolist()


def test_angles_between_recorded_points_go_the_shortest_way():
    turning = Trajectory(
        "v", "a", np.array([0.0, 0.2, 0.4]), np.array([[0, 0, 170.0], [0, 0, -170], [0, 0, -150]])
    )
    crowd_deg, known = Crowd.of([turning], rate_hz=5.0).around(
        np.array([0.1]), history=1, horizon=1
    )
    assert known.all()
    np.testing.assert_allclose(crowd_deg[0, 0, :, 2], [-180, -160], atol=1e-9)


def test_without_earlier_viewers_nobody_is_known():
    clip = cut(counting(40), crowd=CrowdShown(2, None), **WINDOWS)
    fields = clip.fields(slice(None))
    assert not fields["crowd_known"].any()
    assert not fields["crowd_deg"].any()


def test_what_the_viewer_does_next_changes_no_field():
    config = setting("synthetic", memory=20, crowd=5)
    clip = config.clips("test")[0]
    trajectory = clip.side.trajectory
    now = int(clip.side.starts[3])
    other = trajectory.viewports_deg.copy()
    other[now:] = 7.0
    changed = cut(
        replace(trajectory, viewports_deg=other),
        history=10,
        horizon=20,
        stride=15,
        trim_head=30,
        trim_tail=60,
        memory=20,
        crowd=clip.side.shown,
    )
    window = slice(3, 4)
    assert (changed.future_deg[window] != clip.future_deg[window]).any()
    for name, values in clip.fields(window).items():
        np.testing.assert_array_equal(changed.fields(window)[name], values)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_the_crowd_of_every_part_are_users_of_the_train_part(part):
    config = setting("synthetic", crowd=8)
    learners = {clip.user for clip in config.clips("train")}
    for clip in config.clips(part):
        assert set(clip.side.shown.crowd.users) == learners
        shown = clip.fields(slice(0, 1))["crowd_known"].sum()
        assert shown == len(learners - {clip.user})


def test_earlier_viewers_of_own_data_are_those_of_the_folder_train(heads):
    config = setting("default", trajectories=heads, crowd=3, trim_head=10, trim_tail=19)
    (clip,) = config.clips("test")
    assert clip.side.shown.crowd.users == ("anna", "ben")
    assert clip.fields(slice(0, 1))["crowd_known"].tolist() == [[True, True, False]]


def test_parts_that_share_a_video_see_the_same_earlier_viewers(heads):
    config = setting("default", trajectories=heads, crowd=3, trim_head=10, trim_tail=19)
    for part in ("train", "test", "valid"):  # in any order: a video is met once
        for clip in config.clips(part):
            assert clip.side.shown.crowd.users == ("anna", "ben")


@pytest.fixture
def heads(tmp_path):
    rows = ["time,yaw,pitch", *(f"{k / 5:.1f},{k},0" for k in range(60))]
    for part, users in (("train", ("anna", "ben")), ("valid", ("cleo",)), ("test", ("dan",))):
        for user in users:
            file = tmp_path / "heads" / part / "harbour" / f"{user}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(rows) + "\n")
    return tmp_path / "heads"


@pytest.mark.parametrize("field", ["memory", "crowd"])
def test_side_information_cannot_be_negative(field):
    with pytest.raises(ValueError, match=f"`{field}` must"):
        setting("synthetic", **{field: -1})


def test_default_shows_neither():
    clip = setting("synthetic").clips("test")[0]
    assert clip.side is None
    assert set(clip.fields(slice(0, 2))) == {"viewport_deg", "time_s"}


def test_the_environment_shows_what_the_setting_knows():
    env = Env(setting=setting("synthetic", memory=6, crowd=3), part="test")
    check_env(env, skip_render_check=True)
    observation, _ = env.reset(seed=0)
    assert observation["crowd_deg"].shape == (3, 30, 3)
    assert observation["memory_known"].tolist() == [1] * 6
    clip = env.clip
    np.testing.assert_allclose(
        observation["memory_deg"],
        wrap_deg(clip.side.trajectory.viewports_deg[14:20]),
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", ["crowd", "crowd-memory"])
def test_published_viewers_of_the_past_are_nobody_who_validates_or_tests(real_data, name):
    config = setting(name, data=real_data)
    others = {clip.user for part in ("valid", "test") for clip in config.clips(part)}
    clips = config.clips("test")
    for clip in clips:
        assert len(clip.side.shown.crowd.users) == 42
        assert not others & set(clip.side.shown.crowd.users)
    shown = [clip.fields(slice(None))["crowd_known"].mean() for clip in clips]
    assert np.mean(shown) > 0.95
