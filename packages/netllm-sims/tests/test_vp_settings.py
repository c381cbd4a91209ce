import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from netllm_sims.vp import mae_deg, rollout, setting, settings

REAL = ["memory", "crowd", "crowd-memory", "unseen-horizon", "unseen-dataset", "unseen-both"]


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


@pytest.fixture
def no_vp_data(monkeypatch):
    monkeypatch.delenv("NETLLM_DATA", raising=False)


@pytest.mark.usefixtures("no_vp_data")
def test_default_without_data_is_synthetic_and_says_so():
    config = setting("default")
    assert config.synthetic
    assert config.dataset == "synthetic"
    assert config.data is None
    one, other = config.clips("test")[0], setting("synthetic").clips("test")[0]
    np.testing.assert_array_equal(one.history_deg, other.history_deg)


@pytest.mark.usefixtures("no_vp_data")
@pytest.mark.parametrize("name", REAL)
def test_real_settings_without_data_tell_where_to_name_it(name):
    with pytest.raises(FileNotFoundError, match="--data DIR or NETLLM_DATA"):
        setting(name)


def test_a_wrong_data_folder_is_an_error_not_a_fallback(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"must hold vp/Jin2022\.zip .*--data"):
        setting("default", data=tmp_path)
    monkeypatch.setenv("NETLLM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere: .*NETLLM_DATA"):
        setting("default")
    assert setting("synthetic").synthetic


def test_unknown_names_list_the_nearest():
    with pytest.raises(ValueError, match=r"'unseen-datset'\. Did you mean unseen-dataset"):
        setting("unseen-datset")
    with pytest.raises(ValueError, match=r"Unknown field 'horizn'\. Did you mean horizon"):
        setting("synthetic", horizn=1)
    with pytest.raises(ValueError, match="Unknown field 'synthetic'"):
        setting("default", synthetic=True)
    with pytest.raises(ValueError, match=r"Unknown way with gaps 'spit'\. Did you mean split"):
        setting("synthetic", gaps="spit")


def test_any_field_can_be_overridden_also_by_text(tmp_path):
    config = setting(
        "synthetic", history="15", horizon=10, fov_deg="100,80", rate_hz="5", frames=str(tmp_path)
    )
    assert (config.history, config.horizon, config.rate_hz) == (15, 10, 5.0)
    assert config.fov_deg == (100.0, 80.0)
    assert config.frames == tmp_path.resolve()
    assert setting("synthetic", frames=None, users=None).users is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"history": 0}, "`history` must be at least 1 point, got 0"),
        ({"horizon": 2.5}, "`horizon` must be a whole number, got 2.5"),
        ({"stride": "x"}, "`stride` must be a number, got 'x'"),
        ({"history": 31}, "`trim_head` must be at least 31 points for a history of 31"),
        ({"horizon": 62}, "`trim_tail` must be at least 61 points"),
        ({"rate_hz": 0}, "`rate_hz` must be a finite number > 0, got 0"),
        ({"front_deg": float("nan")}, r"`front_deg` must be a yaw in \[-360, 360\], got nan"),
        ({"front_deg": 1e300}, r"`front_deg` must be a yaw in \[-360, 360\], got 1e\+300"),
        ({"memory": 10**9}, r"`memory` must lie in \[0, 100,000\], got 1000000000"),
        ({"crowd": 10**9}, r"`crowd` must lie in \[0, 10,000\], got 1000000000"),
        ({"fov_deg": (180, 90)}, r"`fov_deg` must be two angles in \(0, 180\)"),
        ({"fov_deg": "90"}, "`fov_deg` must be two angles"),
        ({"users": ["user1"]}, "choose among recorded data"),
        ({"users": []}, r"`users` must be one or more names, got \[\]"),
        ({"seed": -1}, "`seed` must be a whole number >= 0, got -1"),
    ],
)
def test_values_that_do_not_fit_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        setting("synthetic", **fields)


def test_own_folders_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone: .*\(`trajectories`\)"):
        setting("default", trajectories=tmp_path / "gone")


def own_data(folder, **points):
    """A tree in which user `u` of each video has so many points at 5 Hz."""
    for video, count in points.items():
        (folder / video).mkdir(parents=True)
        rows = "\n".join(f"{i / 5:.1f},{i % 90},0" for i in range(count))
        (folder / video / "u.csv").write_text(f"time,yaw,pitch\n{rows}\n")
    return folder


def test_own_data_too_short_for_any_window_name_the_longest_file_and_what_to_lower(tmp_path):
    root = own_data(tmp_path / "mine", a=40, b=90)
    with pytest.raises(
        ValueError,
        match=r"b.u\.csv: .*`trim_head` \+ `trim_tail` = 90 points.*30 without a gap, "
        r"got 90 points at 5 Hz\. Lower `trim_tail` \(to 19 at least\) and `trim_head` \(to 10\)",
    ):
        setting("default", trajectories=root).clips("test")
    (clip,) = setting("default", trajectories=root, videos="b", trim_tail=59).clips("test")
    assert len(clip) == 1
    trimmed = setting("default", trajectories=root, trim_head=10, trim_tail=19).clips("test")
    assert [len(clip) for clip in trimmed] == [1, 5]


def test_pairs_left_out_for_being_short_are_told_once(tmp_path, caplog):
    root = own_data(tmp_path / "mine", a=40, b=200, c=90)
    config = setting("default", trajectories=root)
    for _ in range(2):
        assert [clip.id for clip in config.clips("test")] == ["mine/b/u"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "2 of the 3 user-video pairs of the test part of mine are too short for any window and "
        "left out: mine/a/u, mine/c/u."
    )


def test_unseen_settings_have_a_test_part_only(vp_data):
    with pytest.raises(ValueError, match=r"only a `test` part, got 'train'\. Train on `default`"):
        setting("unseen-both", data=vp_data).clips("train")


def test_parts_and_episodes_are_checked():
    config = setting("synthetic")
    with pytest.raises(ValueError, match="`part` must be one of train, valid, test, got 'tset'"):
        config.clips("tset")
    for episodes in (0, 61):
        with pytest.raises(ValueError, match=rf"at least 1 and at most 60, .*got {episodes}"):
            config.clips("test", episodes=episodes)


def test_episodes_choose_pairs_by_seed_and_the_first_to_test():
    config = setting("synthetic")
    every = [clip.id for clip in config.clips("valid")]
    assert len(every) == 24
    some = [clip.id for clip in config.clips("valid", episodes=9, seed=3)]
    assert some == [clip.id for clip in config.clips("valid", episodes=9, seed=3)]
    assert some != [clip.id for clip in config.clips("valid", episodes=9, seed=4)]
    assert some == [one for one in every if one in some]
    assert len(set(some)) == 9
    assert config.clips("test", episodes=4, seed=8) == config.clips("test")[:4]


def test_what_was_read_is_kept(vp_data):
    config = setting("default", data=vp_data)
    assert config.clips("valid")[0] is config.clips("valid")[0]


def test_training_windows_may_be_denser():
    config = setting("synthetic", train_stride=5)
    assert [len(config.clips(part)[0]) for part in ("train", "valid", "test")] == [42, 14, 14]


def test_published_gaps_can_be_refused_or_split(vp_data):
    strict = setting("default", data=vp_data, gaps="error", users="user31", videos="video10")
    with pytest.raises(ValueError, match=r"video10/5Hz/simple_5Hz_user31\.csv:\d+: .*at most 1 s"):
        strict.clips("valid")
    kept = setting("default", data=vp_data, users="user31", videos="video10")
    split = setting("default", data=vp_data, gaps="split", users="user31", videos="video10")
    assert len(split.clips("valid")[0]) < len(kept.clips("valid")[0])


def test_published_data_at_another_rate_are_resampled(vp_data):
    some = {"data": vp_data, "users": "user83", "videos": "video4"}
    (fine,) = setting("default", rate_hz=10, history=20, trim_head=60, **some).clips("test")
    (rough,) = setting("default", **some).clips("test")
    assert np.diff(fine.time_s) == pytest.approx(1.5, abs=1e-9)
    assert np.diff(rough.time_s) == pytest.approx(3.0, abs=0.1)


def test_the_whole_of_jin2022_has_its_published_pairs(vp_data):
    config = setting("default", data=vp_data)
    assert sum(len(config.clips(part)) for part in config.parts) == 630 + 126 + 126


def test_the_synthetic_parts_have_as_many_windows_as_the_readme_says():
    config = setting("synthetic")
    counts = [sum(len(clip) for clip in config.clips(part)) for part in config.parts]
    assert counts == [5376, 336, 840]


@pytest.mark.parametrize("module", ["netllm_sims", "netllm_sims.vp"])
def test_importing_loads_neither_torch_nor_scipy_nor_images(module):
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded.isdisjoint({"torch", "numba", "scipy", "PIL", "imageio"})


def test_an_unpacked_folder_reads_like_the_zip(vp_data, tmp_path):
    with zipfile.ZipFile(vp_data / "vp" / "Jin2022.zip") as archive:
        some = [name for name in archive.namelist() if name.startswith("Jin2022/video4/")]
        archive.extractall(tmp_path / "vp", some)
    loose = setting("default", data=tmp_path).clips("test")
    packed = setting("default", data=vp_data, videos="video4").clips("test")
    assert [clip.id for clip in loose] == [clip.id for clip in packed]
    np.testing.assert_array_equal(loose[-1].future_deg, packed[-1].future_deg)
    with pytest.raises(ValueError, match="must hold files of the valid part of Jin2022, got none"):
        setting("default", data=tmp_path).clips("valid")
