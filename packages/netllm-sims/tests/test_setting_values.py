"""Every field of every task's settings, given what a person may type."""

from dataclasses import fields
from importlib import import_module

import pytest
from netllm_sims import abr, cjs, vp

TYPED = (
    *(0, 1, -1, 2024, 2.5, 1e400, 10**400, float("nan"), True, "", "word", "-1", "1,word", "a,b"),
    *([], [1], [300, 750], ["a", "b"], [[1], 2], [-1, -2], {}, {"a": 1}, None),
)
FIELDS = [
    (task, one.name)
    for task in (abr, cjs, vp)
    for one in fields(import_module(f"{task.__name__}.settings").Setting)
    if one.name not in ("name", "data", "synthetic", "dataset")
] + [(abr, name) for name in ("rates_kbps", "chunk_s", "chunks")]


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("value", TYPED, ids=repr)
@pytest.mark.parametrize(("task", "field"), FIELDS, ids=lambda one: getattr(one, "__name__", one))
def test_a_value_fits_or_the_message_names_the_field(task, field, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = ""
    try:
        task.setting("synthetic", **{field: value})
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
    assert not message or field in message
    if (value is True and field != "split") or isinstance(value, dict):
        assert f"`{field}` must be" in message


def test_a_folder_may_be_called_by_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "2024"
    (folder / "7").mkdir(parents=True)
    for level in range(6):
        (folder / f"video_size_{level}").write_text("1000\n" * 9)
    assert abr.setting("synthetic", traces=2024).traces == folder
    assert abr.setting("synthetic", video=2024).video.chunks == 9
    assert vp.setting("synthetic", trajectories=2024, videos=7, users=[8, "9"]).users == ("8", "9")
    assert cjs.setting("synthetic", jobs=2024).jobs == folder


PATHS = [(abr, "traces"), (abr, "video"), (cjs, "jobs"), (vp, "trajectories")]


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize(("task", "field"), PATHS, ids=lambda one: getattr(one, "__name__", one))
def test_an_empty_path_is_not_the_working_directory(task, field, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for level in range(6):
        (tmp_path / f"video_size_{level}").write_text("1000\n" * 9)
    with pytest.raises(ValueError, match=f"`{field}` must be a path, got '{value}'"):
        task.setting("synthetic", **{field: value})


@pytest.mark.parametrize("task", [abr, cjs, vp])
def test_an_empty_data_folder_is_not_the_working_directory(task):
    with pytest.raises(ValueError, match="`data` must be a path, got ''"):
        task.setting("default", data="")


def test_a_single_rate_is_no_ladder():
    with pytest.raises(ValueError, match=r"`rates_kbps` must be at least two rates .*got 300"):
        abr.setting("synthetic", rates_kbps=300)


def test_a_file_is_no_folder_of_traces(tmp_path):
    file = tmp_path / "trace"
    file.write_text("0 1\n9 2\n")
    with pytest.raises(NotADirectoryError, match="`traces` must be a folder, got a file"):
        abr.setting("synthetic", traces=file)


def test_a_video_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    (tmp_path / "abr/traces").mkdir(parents=True)
    for video in ("video1", "video2"):
        (tmp_path / "abr/videos" / video).mkdir(parents=True)
        (tmp_path / "abr/videos" / video / "video_size_0").write_text("1\n")
    with pytest.raises(FileNotFoundError, match=r"`video`\).* video1 or video2 or synthetic"):
        abr.setting("default", data=tmp_path, video=1)
