"""What cannot be written is told before the work, and probing leaves nothing behind."""

import pytest
from netllm.verbs.check_writable import check_file, check_folder


def everything(folder):
    return sorted(folder.rglob("*"))


def test_a_probe_leaves_no_trace(tmp_path):
    (tmp_path / "old").write_text("kept")
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "deeper")
    check_file(tmp_path / "other" / "results.json")
    assert everything(tmp_path) == [tmp_path / "old"]


def test_a_full_disk_is_found_by_the_probe_and_the_target_is_named(tmp_path, room):
    for target in (tmp_path, tmp_path / "new" / "deeper"):
        with room(0), pytest.raises(OSError, match=r"Free space") as caught:
            check_folder(target)
        assert caught.value.filename == str(target)
    assert everything(tmp_path) == []


def test_what_lies_below_a_file_or_in_place_of_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"file must be a folder, got a file"):
        check_folder(tmp_path / "file" / "below")
    (tmp_path / "results.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"results\.json must be a file, got a folder"):
        check_folder(tmp_path, files=("results.json",))
    with pytest.raises(IsADirectoryError, match="Choose another name"):
        check_file(tmp_path / "results.json")


@pytest.mark.parametrize("target", ["disk", "file"])
@pytest.mark.parametrize("command", ["rl-collect", "adapt", "test", "train-baseline"])
def test_no_work_is_done_for_what_cannot_be_written(netllm, tmp_path, room, target, command):
    (tmp_path / "file").write_text("")
    out = tmp_path / {"disk": "new", "file": "file/below"}[target]
    # The policy and the pool fail when they are used: the output is asked for before.
    words = {
        "rl-collect": ("rl-collect", "abr", "--policy", "own_policies:failing", "--out", out),
        "adapt": ("adapt", "abr", "--pool", tmp_path / "no-pool", "--out", out),
        "test": ("test", "abr", "--policy", "own_policies:failing", "--out", out),
        "train-baseline": ("train-baseline", "abr", "ppo", "--out", out / "x.npz"),
    }
    with room(0 if target == "disk" else 10**9):
        code, _, err = netllm(*words[command], "--setting", "synthetic")
    assert code == {"disk": 1, "file": 2}[target]
    assert {"disk": "Free space", "file": "must be a folder, got a file"}[target] in err
    assert everything(tmp_path) == [tmp_path / "file"]
