import os
import zipfile
from itertools import product

import numpy as np
import pytest
from netllm_sims.vp import geometry, load_trajectories, setting

TIMES_S = np.arange(120) / 5


def path(count=120, seed=0):
    """A head that wanders smoothly over the back."""
    t = np.arange(count) / 5 + seed
    return np.stack([5 * np.sin(t), 30 * np.sin(0.4 * t), geometry.wrap_deg(170 + 9 * t)], axis=-1)


def write(file, header, columns):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(f"{value:.9f}" for value in row) for row in np.column_stack(columns)]
    file.write_text("\n".join([header, *lines][not header :]) + "\n")
    return file


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mine"


def only(root, **options):
    (one,) = load_trajectories(root, **options)
    return one


def test_quaternions_vectors_angles_and_the_published_form_agree(tmp_path):
    looks = geometry.from_yaw_pitch(geometry.to_yaw_pitch(path()))  # untilted
    quaternions, vectors = geometry.to_quaternions(looks), geometry.to_vectors(looks)
    x, y, z, w = quaternions.T
    columns = {
        "time,qx,qy,qz,qw": quaternions,
        "timestamp,w,x,y,z": np.stack([w, x, y, z], axis=-1),
        "time_s,x,y,z": vectors,
        "time,yaw,pitch": geometry.to_yaw_pitch(looks),
        "time,Pitch_deg,Yaw_deg,Roll_deg": looks[:, [1, 2, 0]],
        "": looks,
    }
    for number, (header, values) in enumerate(columns.items()):
        write(tmp_path / str(number) / "video1" / "u.csv", header, [TIMES_S, values])
        got = only(tmp_path / str(number))
        difference = geometry.wrap_deg(got.viewports_deg - looks)
        np.testing.assert_allclose(difference, 0, atol=1e-6, err_msg=header)
        np.testing.assert_allclose(got.times_s, TIMES_S)
    assert got.id == "5/video1/u"
    assert got.source == tmp_path / "5" / "video1" / "u.csv"


def test_comments_blank_lines_quotes_milliseconds_and_other_columns_are_read(root):
    text = (
        '\ufeff# recorded by hand\n"time_ms", "frame", "yaw", "pitch"\r\n\r\n'
        "0, 1, 10, 0\r\n200, , 20, 0\r\n# pause\r\n400, east, 370, 0"
    )
    (root / "v").mkdir(parents=True)
    (root / "v" / "u.csv").write_text(text, encoding="utf-8")
    got = only(root)
    np.testing.assert_allclose(got.times_s, [0, 0.2, 0.4])
    np.testing.assert_allclose(got.viewports_deg[:, 2], [10, 20, 10], atol=1e-9)


def test_a_file_at_another_rate_is_resampled_and_one_at_the_rate_is_not(root):
    fine_s = np.arange(1200) / 50
    yaw = geometry.wrap_deg(170 + 20 * fine_s)
    write(root / "v" / "fine.csv", "time,yaw,pitch", [fine_s, yaw, 0 * yaw])
    jitter_s = TIMES_S + np.random.default_rng(0).uniform(-0.04, 0.04, 120)
    write(root / "v" / "rough.csv", "time,roll,pitch,yaw", [jitter_s, path()])
    fine, rough = load_trajectories(root)
    np.testing.assert_allclose(fine.times_s, TIMES_S[: len(fine.times_s)], atol=1e-9)
    wanted = geometry.wrap_deg(170 + 20 * fine.times_s)
    np.testing.assert_allclose(geometry.wrap_deg(fine.viewports_deg[:, 2] - wanted), 0, atol=1e-6)
    np.testing.assert_allclose(rough.times_s, jitter_s, atol=1e-9)
    np.testing.assert_allclose(rough.viewports_deg, path(), atol=1e-9)


def with_gap(root):
    times_s = TIMES_S + 3.0 * (np.arange(120) >= 50)
    return write(root / "v" / "u.csv", "time,roll,pitch,yaw", [times_s, path()])


def test_a_gap_is_an_error_naming_file_and_line(root):
    file = with_gap(root)
    with pytest.raises(ValueError, match=rf"{file}:52: .*at most 1 s, got 3.2 s.*gaps='split'"):
        load_trajectories(root)


def test_gaps_are_split_filled_or_kept_on_demand(root):
    with_gap(root)
    assert only(root, gaps="split").breaks == (50,)
    assert only(root, gaps="keep").breaks == ()
    filled = only(root, gaps="interpolate")
    assert len(filled.times_s) == 120 + 15
    np.testing.assert_allclose(np.diff(filled.times_s), 0.2, atol=1e-9)
    # the whole reading: no window reaches over the gap
    config = {"trajectories": root, "stride": 1, "trim_head": 10, "trim_tail": 20}
    windows = {
        gaps: len(setting("default", gaps=gaps, **config).clips("test")[0])
        for gaps in ("split", "keep", "interpolate")
    }
    assert windows == {"split": 90 - 29, "keep": 90, "interpolate": 105}


def test_both_sides_of_a_gap_are_resampled_on_their_own(root):
    times_s = np.concatenate([np.arange(100) / 50, 10 + np.arange(100) / 50])
    write(root / "v" / "u.csv", "time,yaw,pitch", [times_s, 0 * times_s, 0 * times_s])
    got = only(root, gaps="split")
    assert got.breaks == (10,)
    np.testing.assert_allclose(got.times_s[9:12], [1.8, 10.0, 10.2], atol=1e-9)


BAD = {
    "time,yaw\n0,1\n": r":1: the header must name `time` and one of .*got time,yaw",
    "time,yaw,pitch,yaw\n0,1,2,3\n": ":1: the header must name yaw once, got time,yaw,pitch,yaw",
    "time,t,yaw,pitch\n0,0,1,2\n": ":1: the header must name the time once, got time,t,yaw,pitch",
    "yaw,pitch\n0,1\n": ":1: the header must name `time`",
    "": ":1: .*at least one point, got none",
    "time,yaw,pitch": ":1: .*at least one point, got none",
    "time,yaw,pitch\n0,1,2\n0.2,nan,2\n": ":3: .*finite numbers, .*, got '0.2,nan,2'",
    "time,yaw,pitch\n0,1,2\n\n0.2,inf,2\n": ":4: .*finite numbers, .*, got '0.2,inf,2'",
    "time,yaw,pitch\n0,1,2\n0.2,east,2\n": ":3: .*must be numbers, got '0.2,east,2'",
    "time,yaw,pitch\n0,1,2\n0.2,1_0,2\n": ":3: .*must be numbers",
    "time,yaw,pitch\n0,1,2\n0.2,1\n": ":3: the line must hold 3 columns, got '0.2,1'",
    "time,yaw,pitch\n0,1\n0.2,1,4,4\n": ":2: the line must hold 3 columns, got '0,1'",
    "time,yaw,pitch\n0,1,2\n0.2,1,2\n0.1,1,2\n": ":4: time must increase .*0.1 s after 0.2 s",
    "time,yaw,pitch\n0,1,2\n0.2,1,91\n": r":3: pitch must lie in \[-90, 90\] degrees, got 91",
    'time,yaw,pitch\n0,1,2\n0.2,"1,2\n': ":3: quotes must be closed, got",
    "0,1,2\n": r":1: a file without a header must hold 4 columns",
    "time,qx,qy,qz,qw\n0,0,0,0,1\n0.2,0,0,0.1,1\n": ":3: a quaternion must be of length 1",
    "time,x,y,z\n0,0,0,0\n": ":2: a vector must be of length 1 within 0.001, got 0",
}


BAD["time,yaw,pitch\n0,1,2\n1e308,1,2\n"] = ":3: .*at most 1e.15 in magnitude, got '1e308,1,2'"


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_bad_files_are_errors_naming_file_and_line(root, text, message):
    (root / "v").mkdir(parents=True)
    (root / "v" / "u.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"u\.csv{message}"):
        load_trajectories(root)


def test_quaternions_within_the_tolerance_are_taken(root):
    write(root / "v" / "u.csv", "time,qx,qy,qz,qw", [[0, 0.2], np.eye(4)[[3, 3]] * 1.0009])
    np.testing.assert_allclose(only(root).viewports_deg, 0, atol=1e-9)


def people(root, videos="abc", users=10, parts=("",)):
    for part, video, user in product(parts, videos, range(users)):
        name = f"{part}{user}" if part else str(user)
        file = root / part / video / f"u{name}.csv"
        write(file, "time,roll,pitch,yaw", [TIMES_S, path(seed=user)])


def pairs(config, part):
    return {(clip.video, clip.user) for clip in config.clips(part)}


def test_without_folders_of_parts_users_are_split_the_same_way_every_time(root):
    people(root)
    config = setting("default", trajectories=root)
    split = {part: {user for _, user in pairs(config, part)} for part in config.parts}
    assert [len(split[part]) for part in config.parts] == [6, 2, 2]
    assert len(set.union(*split.values())) == 10
    # of `printf u0 | sha256sum` and so on, these two are the lowest
    assert split["test"] == {"u3", "u9"}
    assert len(config.clips("train")) == 6 * 3
    assert config.dataset == "mine"
    assert not config.synthetic


def test_folders_of_parts_are_the_parts(root):
    people(root, users=2, parts=("train", "valid", "test"))
    config = setting("unseen-dataset", trajectories=str(root))
    assert {user for _, user in pairs(config, "test")} == {"utest0", "utest1"}
    train = setting("default", trajectories=root).clips("train", episodes=3, seed=1)
    assert [clip.video for clip in train] == sorted(clip.video for clip in train)
    assert all(clip.user.startswith("utrain") for clip in train)


def test_a_zip_reads_like_the_folder_that_it_packs(root, tmp_path):
    people(root, users=4)
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in root.rglob("*.csv"):
            packed.write(file, f"mine/{file.relative_to(root)}")
    loose = setting("default", trajectories=root).clips("test")
    packed = setting("default", trajectories=archive).clips("test")
    assert [clip.id for clip in loose] == [clip.id for clip in packed]
    for one, other in zip(loose, packed, strict=True):
        np.testing.assert_array_equal(one.history_deg, other.history_deg)


def test_a_damaged_zip_is_an_error_naming_the_file(root, tmp_path):
    people(root, users=1)
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(root / "a" / "u0.csv", "a/u0.csv")
    whole = archive.read_bytes()
    content = bytearray(whole)
    content[60:400] = bytes(340)
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.zip/a/u0\.csv: the packing breaks after"):
        load_trajectories(archive)
    locked = bytearray(whole)
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        locked[whole.index(header) + flags] |= 1  # says that it is encrypted
    archive.write_bytes(locked)
    with pytest.raises(ValueError, match=r"mine\.zip/a/u0\.csv: .* must not be encrypted"):
        load_trajectories(archive)
    archive.write_bytes(content[:200])
    with pytest.raises(ValueError, match=r"mine\.zip: must be a whole zip archive"):
        load_trajectories(archive)


def test_files_out_of_place_are_errors(root):
    write(root / "u.csv", "", [TIMES_S, path()])
    with pytest.raises(ValueError, match=r"u\.csv: must lie in a folder named like its video"):
        load_trajectories(root)
    (root / "u.csv").unlink()
    with pytest.raises(ValueError, match=r"must hold files like video1/user1\.csv, got none"):
        load_trajectories(root)
    people(root, users=1)
    write(root / "again" / "a" / "u0.csv", "", [TIMES_S, path()])
    with pytest.raises(
        ValueError, match=r"again/a/u0\.csv: there must be one file per video and user"
    ):
        load_trajectories(root)
    (root / "again" / "a" / "u0.csv").rename(root / "again" / "a" / "u1.csv")
    assert len(load_trajectories(root)) == 4
    write(root / "test" / "a" / "u2.csv", "", [TIMES_S, path()])
    with pytest.raises(ValueError, match=r"must lie in train, valid or test, or none, got both"):
        load_trajectories(root)


def test_users_and_videos_that_are_not_there_list_the_nearest(root):
    people(root)
    config = {"trajectories": root}
    with pytest.raises(ValueError, match=r"Unknown user 'u11'\. Did you mean u1"):
        setting("default", users="u1,u11", **config).clips("test")
    with pytest.raises(ValueError, match=r"Unknown video 'd'\. Known: a, b, c"):
        setting("default", videos=["d"], **config).clips("test")
    some = setting("default", users=["u3"], videos="mine/a,b", **config).clips("test")
    assert [clip.id for clip in some] == ["mine/a/u3", "mine/b/u3"]
    with pytest.raises(
        ValueError, match=r"must hold trajectories of the train part, got none. Choose other"
    ):
        setting("default", users=["u3"], **config).clips("train")


def test_two_users_are_all_test(root):
    people(root, users=2)
    config = setting("default", trajectories=root)
    assert len(config.clips("test")) == 6
    with pytest.raises(ValueError, match="Fewer than three users are all test"):
        config.clips("train")


def test_a_pipe_is_refused_and_not_waited_for(root):
    people(root, videos="a", users=1)
    os.mkfifo(root / "a" / "u1.csv")
    with pytest.raises(ValueError, match=r"u1\.csv: must be a regular file, got a named pipe"):
        load_trajectories(root)
    os.mkfifo(root.parent / "pipe.zip")
    with pytest.raises(ValueError, match=r"pipe\.zip: must be a regular file"):
        load_trajectories(root.parent / "pipe.zip")


def test_what_is_larger_than_the_limit_is_refused_with_the_way_to_raise_it(
    root, tmp_path, monkeypatch
):
    people(root, videos="a", users=1)
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(root / "a" / "u0.csv", "a/u0.csv")
    for data in (root, archive):
        monkeypatch.setenv("NETLLM_READ_LIMIT", "0.002MB")
        with pytest.raises(ValueError, match="environment variable NETLLM_READ_LIMIT"):
            load_trajectories(data)
        monkeypatch.setenv("NETLLM_READ_LIMIT", "1MB")
        assert len(only(data).times_s) == 120


def test_a_zip_that_swells_is_refused_before_it_is_read(tmp_path):
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/u.csv", b"0.2,0,0,0\n" * 2_000_000)
    with pytest.raises(ValueError, match=r"bomb\.zip: must unpack to at most 100 times its size"):
        load_trajectories(archive)


def test_recordings_that_would_never_fit_into_memory_are_refused(root):
    write(root / "v" / "u.csv", "time,yaw,pitch", [[0, 1, 1e12], [0, 1, 2], [0, 1, 2]])
    with pytest.raises(ValueError, match=r"u\.csv:4: .*at most 10,000,000 points .* got 1e\+12 s"):
        load_trajectories(root, gaps="interpolate")


def told(caplog):
    return "\n".join(record.getMessage() for record in caplog.records)


def test_radians_are_told_from_degrees(root, caplog):
    write(root / "v" / "a.csv", "time,roll,pitch,yaw", [TIMES_S, np.deg2rad(path())])
    write(root / "v" / "b.csv", "time,roll,pitch,yaw", [TIMES_S, np.deg2rad(path(seed=3))])
    load_trajectories(root)
    assert "no angle of 2 recordings is larger than 3.1" in told(caplog)
    assert "expected degrees: yaw from -180 to 180" in told(caplog)


def test_small_angles_are_believed_where_the_file_says_degrees_or_one_head_moves(root, caplog):
    small = [TIMES_S, np.deg2rad(path())]
    write(root / "v" / "a.csv", "time,roll_deg,pitch_deg,yaw_deg", small)
    load_trajectories(root)
    write(root / "v" / "a.csv", "time,roll,pitch,yaw", small)
    write(root / "v" / "b.csv", "time,roll,pitch,yaw", [TIMES_S, path()])
    load_trajectories(root)
    assert told(caplog) == ""


@pytest.mark.parametrize(
    ("header", "times", "message"),
    [
        ("time", TIMES_S * 1e3, "median time between points is 200 s, expected at most 5 s"),
        ("time_ms", TIMES_S, "median time between points is 0.0002 s, expected at least 0.001 s"),
        ("time", TIMES_S + 1.7e9, "first time is 1,700,000,000 s, expected seconds into the video"),
    ],
)
def test_times_of_another_unit_are_told(root, caplog, header, times, message):
    write(root / "v" / "u.csv", f"{header},roll,pitch,yaw", [times, path()])
    load_trajectories(root, gaps="keep", rate_hz=1 / np.median(np.diff(times)))
    assert message in told(caplog)


def test_a_damaged_recording_is_refused_by_name(root, survivors):
    file = write(root / "v" / "u.csv", "time,roll,pitch,yaw", [TIMES_S[:20], path(20)])
    for loaded in survivors(file, lambda: load_trajectories(root, gaps="keep")):
        assert all(np.isfinite(one.viewports_deg).all() for one in loaded)


def test_a_damaged_archive_is_refused_by_name(root, tmp_path, survivors):
    write(root / "v" / "u.csv", "time,roll,pitch,yaw", [TIMES_S[:20], path(20)])
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(root / "v" / "u.csv", "v/u.csv")
    content = only(root).viewports_deg
    for (loaded,) in survivors(archive, lambda: load_trajectories(archive)):
        np.testing.assert_array_equal(loaded.viewports_deg, content)
