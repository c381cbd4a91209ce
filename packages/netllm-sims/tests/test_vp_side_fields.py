"""Side information as predictors read it."""

import numpy as np
import pytest
from netllm_sims.vp import setting
from netllm_sims.vp.geometry import mirrored
from netllm_sims.vp.side_fields import ALIKE, SideFields, nearest


def looking_at(*yaws, points=30):
    """Viewers who keep looking at these yaws: (1, viewer, point, 3)."""
    crowd_deg = np.zeros((1, len(yaws), points, 3))
    crowd_deg[..., 2] = np.array(yaws)[None, :, None]
    return crowd_deg


def fields_of(*yaws, known=None):
    known = [True] * len(yaws) if known is None else known
    return {"crowd_deg": looking_at(*yaws), "crowd_known": np.array([known])}


def test_the_viewers_most_alike_come_first_and_those_not_known_last():
    history_deg = np.zeros((1, 10, 3))
    shown = nearest(history_deg, fields_of(90, 1, -170, 20, known=[True, False, True, True]), 4)
    assert shown["crowd_deg"][0, :3, 0, 2].tolist() == [20, 90, -170]
    assert shown["crowd_known"].tolist() == [[True, True, True, False]]


def test_nearness_goes_around_the_circle_and_looks_at_the_last_second_alone():
    history_deg = np.zeros((1, 10, 3))
    history_deg[..., 2] = 179
    fields = fields_of(150, -179)
    fields["crowd_deg"][0, 1, : 10 - ALIKE, 2] = 0  # long ago it looked elsewhere
    shown = nearest(history_deg, fields, 1)
    assert shown["crowd_deg"][0, 0, -1, 2] == -179


@pytest.mark.parametrize("viewers", [3, 6])
def test_there_are_as_many_viewers_as_a_model_reads(viewers):
    shown = nearest(np.zeros((1, 10, 3)), fields_of(0, 1, 2, 3), viewers)
    assert shown["crowd_deg"].shape == (1, viewers, 30, 3)
    assert shown["crowd_known"].sum() == min(viewers, 4)
    alone = nearest(np.zeros((2, 10, 3)), {}, viewers)
    assert alone["crowd_known"].shape == (2, viewers)
    assert not alone["crowd_known"].any()


@pytest.fixture(scope="module")
def config():
    return setting("synthetic", crowd=8, memory=20, train_stride=15)


def test_mirrored_windows_have_mirrored_side_information(config):
    clips = config.clips("train")[:3]
    side = SideFields(clips, front_deg=20.0, seed=0)
    windows = sum(len(clip) for clip in clips)
    rows = np.array([0, 5, windows - 1])
    plain = side(rows)
    flipped = SideFields(clips, front_deg=20.0, seed=0)(np.concatenate([rows, rows + windows]))
    np.testing.assert_array_equal(flipped["memory_known"][3:], plain["memory_known"])
    known = plain["memory_known"]
    np.testing.assert_allclose(
        flipped["memory_deg"][3:][known], mirrored(plain["memory_deg"], 20.0)[known], atol=1e-6
    )


def test_nobody_is_hidden_without_a_seed(config):
    clips = config.clips("train")[:3]
    rows = np.arange(sum(len(clip) for clip in clips))
    known = [SideFields(clips, front_deg=0.0, seed=seed)(rows)["crowd_known"] for seed in (None, 0)]
    everybody = np.concatenate([clip.fields(slice(None))["crowd_known"] for clip in clips])
    assert known[0].sum() == everybody.sum()
    assert known[1].sum() < known[0].sum()
