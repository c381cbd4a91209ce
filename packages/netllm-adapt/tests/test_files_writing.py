"""What is written appears whole, and errors name what was to be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from netllm_adapt.files.writing import new_file, new_folder, recover


def write_half(target: Path) -> None:
    with new_file(target, then="go on") as work, Path("/dev/full").open("w") as full:
        work.write_text("half")
        full.write("x")


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(OSError, match=r"No space .* Free space .*, then go on: .*results\.json"):
        write_half(target)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"results.json": "old"}


def test_an_error_has_its_number_whoever_writes(
    tmp_path: Path, room: Callable[[int], AbstractContextManager[None]]
) -> None:
    import torch
    from safetensors.torch import save_file

    with (
        room(99),
        pytest.raises(OSError, match=r"weights'$") as told,
        new_folder(tmp_path / "weights") as work,
    ):
        save_file({"weight": torch.zeros(99)}, work / "weights.safetensors")
    assert told.value.errno == errno.EFBIG


def test_an_error_about_another_file_stays_as_it_is(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(FileNotFoundError) as told, new_file(tmp_path / "copy") as work:
        work.write_bytes(absent.read_bytes())
    assert told.value.filename == str(absent)


def test_what_a_killed_writer_left_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / ".best.partial").mkdir()
    (tmp_path / ".best.partial" / "half").touch()
    with new_folder(tmp_path / "best") as work:
        (work / "whole").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["whole"]


def test_a_writer_that_was_killed_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".best.old").mkdir()
    (tmp_path / ".best.old" / "whole").touch()
    with pytest.raises(KeyError), new_folder(tmp_path / "best"):
        raise KeyError
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["whole"]


@pytest.mark.parametrize("stage", ["before", "between", "after"])
def test_a_reader_finds_a_folder_whose_replacing_was_cut_off(tmp_path: Path, stage: str) -> None:
    folder, old, work = (tmp_path / name for name in ("best", ".best.old", ".best.partial"))
    for one, text in ((folder, "old"), (work, "new")):
        one.mkdir()
        (one / "weights").write_text(text)
    if stage != "before":
        folder.rename(old)
    if stage == "after":
        work.rename(folder)
    recover(folder)
    assert (folder / "weights").read_text() == ("new" if stage == "after" else "old")
    recover(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


UMASK = """
import os, sys, torch
from pathlib import Path
from netllm_adapt.files.writing import new_file, new_folder
from safetensors.torch import save_file
os.umask(int(sys.argv[1], 8))
out = Path(sys.argv[2])
weights = {"weight": torch.zeros(9)}
with new_folder(out / "best") as work:
    save_file(weights, work / "head.safetensors")
    (work / "config.json").write_text("{}")
with new_file(out / "weights.safetensors") as work:
    save_file(weights, work)
"""


@pytest.mark.skipif(os.name != "posix", reason="modes and umask are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [("002", 0o664), ("077", 0o600)])
def test_who_may_read_a_file_is_the_umasks_to_say(tmp_path: Path, umask: str, mode: int) -> None:
    subprocess.run([sys.executable, "-c", UMASK, umask, str(tmp_path)], check=True)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.*")}
    names = ("head.safetensors", "config.json", "weights.safetensors")
    assert modes == dict.fromkeys(names, mode)
