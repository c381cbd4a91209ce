import os
from pathlib import Path

import numpy as np
import pytest
from netllm_sims.vp import mae_deg, rollout, setting, settings

REAL = ["unseen-horizon", "unseen-dataset", "unseen-both"]


class HoldLast:
    """Predicts that the head stays where it is."""

    def __init__(self, horizon):
        self.horizon = horizon

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.repeat(observation["viewport_deg"][:, -1:], self.horizon, axis=1)


@pytest.fixture
def vp_data():
    folder = os.environ.get("NETLLM_DATA")
    if not folder or not (Path(folder) / "vp" / "Jin2022.zip").is_file():
        pytest.skip("NETLLM_DATA names no folder with real head movement")
    return Path(folder)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("default", {"train": 8820, "valid": 1754, "test": 1698}),  # ORACLES.md, VP
        ("unseen-horizon", {"test": 1698}),
        ("unseen-dataset", {"test": 1395}),
        ("unseen-both", {"test": 1395}),
    ],
)
def test_windows_are_as_many_as_the_reference_cuts(vp_data, name, counts):
    config = setting(name, data=vp_data)
    got = {part: sum(len(clip) for clip in config.clips(part)) for part in config.parts}
    assert got == counts
    assert not config.synthetic


def test_wu2017_has_as_many_windows_in_every_part_as_the_reference(vp_data):
    config = setting("default", data=vp_data)
    other = setting("unseen-dataset", data=vp_data)
    wu = type(config)(name="default", data=other.data, dataset=other.dataset, gaps="keep")
    got = [sum(len(clip) for clip in wu.clips(part)) for part in ("train", "valid", "test")]
    assert got == [16530, 999, 1395]  # ORACLES.md, VP


@pytest.mark.parametrize(("name", "mae"), [("default", 9.76336), ("unseen-dataset", 11.12)])
def test_holding_the_last_viewport_errs_as_in_the_oracle(vp_data, name, mae):
    config = setting(name, data=vp_data)
    clips = config.clips("test")
    run = rollout(HoldLast(config.horizon), config, clips)
    errors = mae_deg(
        np.concatenate(run.predicted_deg), np.concatenate([clip.future_deg for clip in clips])
    )
    assert errors.mean() == pytest.approx(mae, abs=1e-5 if name == "default" else 5e-3)


def test_the_first_test_window_is_the_published_one(vp_data):
    clip = setting("default", data=vp_data).clips("test", episodes=1)[0]
    assert (clip.id, clip.video, clip.user) == (
        "Jin2022/video4/user83",
        "Jin2022/video4",
        "user83",
    )
    assert clip.history_deg.shape == (len(clip), 10, 3)
    assert clip.future_deg.shape == (len(clip), 20, 3)
    assert clip.time_s[0] == pytest.approx(180.0 + 29 * 0.2, abs=0.1)


def test_every_setting_has_one_line():
    assert set(settings()) == {"default", "synthetic", *REAL}
    assert all(line and "\n" not in line for line in settings().values())
