import os
from pathlib import Path

import numpy as np
import pytest
from netllm_sims.vp import load_trajectories, setting, synthetic_viewers
from netllm_sims.vp.folder_or_zip import Tree
from netllm_sims.vp.geometry import from_vectors, from_yaw_pitch, to_vectors, to_yaw_pitch, turned
from netllm_sims.vp.orientation_checks import odd_front, odd_orientation
from netllm_sims.vp.trajectory_loading import entries, read

SYNTHETIC, PUBLISHED = "synthetic", {"Jin2022": 90.0, "Wu2017": -90.0}


@pytest.fixture(scope="module", params=[SYNTHETIC, *PUBLISHED])
def data(request):
    """Name, and viewer and viewports of recordings of every viewer."""
    if request.param == SYNTHETIC:
        loaded = [
            one
            for part in ("train", "valid", "test")
            for one in synthetic_viewers.trajectories(0, part)[::2]
        ]
    else:
        root = Path(os.environ.get("NETLLM_DATA", ""), "vp", f"{request.param}.zip")
        if not root.is_file():
            pytest.skip("NETLLM_DATA names no folder with the real head movement")
        files = entries(Tree(root))
        how = {"rate_hz": 5.0, "gaps": "keep", "as_published": True}
        loaded = read(Tree(root), files, request.param, **how)
    return request.param, [(one.user, one.viewports_deg) for one in loaded]


def doubts(recordings, change=lambda viewports: viewports):
    return [one.seen for one in odd_orientation([(u, change(v)) for u, v in recordings])]


def test_what_was_recorded_rightly_is_believed(data):
    name, recordings = data
    assert doubts(recordings) == []
    assert doubts(recordings[::4], lambda v: from_yaw_pitch(to_yaw_pitch(v))) == []
    front_deg = PUBLISHED.get(name, 0.0)
    assert list(odd_front([v for _, v in recordings], front_deg)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v * (1, -1, 1), "heads tilt by 1"),  # pitch inverted
        (lambda v: v * (-1, 1, 1), "heads tilt by 1"),  # roll inverted
        (lambda v: v * (1, 1, -1), "heads tilt by 1"),  # yaw to the left: axes of the other hand
        (lambda v: v[:, [1, 0, 2]], "heads tilt by 1"),  # pitch before roll
        (
            lambda v: v + np.array([0, 0, 90]),
            "heads tilt by 1",
        ),  # yaw from elsewhere, not the head turned
        (lambda v: v[:, [0, 2, 1]], "° up or down"),  # yaw before pitch
        (lambda v: v[:, [1, 2, 0]], "° up or down"),  # yaw, roll, pitch
        (lambda v: from_yaw_pitch(to_yaw_pitch(v)[:, ::-1]), "° up or down"),  # pitch before yaw
        (lambda v: from_yaw_pitch((0, 90) - to_yaw_pitch(v)), "° up or down"),  # from the zenith
        (lambda v: from_vectors(to_vectors(v)[:, [2, 0, 1]]), "° up or down"),  # z upwards
    ],
)
def test_wrong_signs_and_orders_are_told(data, change, words):
    (seen,) = doubts(data[1][::4], change)
    assert words in seen


def test_up_for_down_is_told_where_heads_tilt(data):
    name, recordings = data
    seen = doubts(recordings, lambda v: v * (-1, -1, 1))
    # without a tilt, as the seeded viewers are, up and down are alike
    assert [one[:39] for one in seen] == ["heads tilt away from where they turn (a"] * (
        name != SYNTHETIC
    )


def test_a_viewer_in_a_mirror_moves_like_a_viewer(data):
    assert doubts(data[1][::4], lambda v: v * (-1, 1, -1)) == []


def test_a_front_elsewhere_is_told_where_viewers_have_one(data):
    name, recordings = data
    for angle_deg in (90, 180, -90):
        moved = [turned(v, angle_deg) for _, v in recordings[::5]]
        told = list(odd_front(moved, PUBLISHED.get(name, 0.0)))
        assert len(told) == (name != SYNTHETIC)


def heads(viewers, *, upwards=1.0):
    """Viewers who turn sideways by 20° and look up and down by so many times 5°."""
    times = np.arange(400) / 5
    for phase in range(viewers):
        yaw = 20 * np.sin(times / 3 + phase)
        yield f"u{phase}", np.stack([yaw, 5 * upwards * np.cos(times + phase)], axis=-1)


@pytest.fixture
def root(tmp_path):
    def write(heads):
        for viewer, yaw_pitch in heads:
            file = tmp_path / "mine" / "video" / f"{viewer}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [f"{i / 5},{yaw},{pitch}" for i, (yaw, pitch) in enumerate(yaw_pitch)]
            file.write_text("\n".join(["time,yaw,pitch", *rows]) + "\n")
        return tmp_path / "mine"

    return write


def test_a_narrow_yaw_in_the_place_of_pitch_is_told_by_name_with_a_remedy(root, caplog):
    swapped = [(viewer, angles[:, ::-1]) for viewer, angles in heads(5, upwards=0.2)]
    folder = root(swapped)
    load_trajectories(folder)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{folder}: heads turn up and down ")
    assert "expected heads to turn sideways more. If yaw and pitch are in the" in record.message


def test_a_setting_tells_of_a_front_elsewhere(root, caplog):
    folder = root((viewer, angles + np.array([100, 0])) for viewer, angles in heads(5))
    setting("default", trajectories=folder, split=False, front_deg=100).clips("test")
    assert caplog.records == []
    setting("default", trajectories=folder, split=False).clips("test")
    (record,) = caplog.records
    assert f"{folder}: heads look mostly around yaw 100°" in record.getMessage()
    assert "set front_deg=100" in record.message


def test_few_viewers_may_have_their_own_ways(root, caplog):
    load_trajectories(root((viewer, angles[:, ::-1]) for viewer, angles in heads(4)))
    assert caplog.records == []
