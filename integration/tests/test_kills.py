"""Nothing is lost, whenever a command is killed; `nox -s kills` kills oftener."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS, WORKERS = (Path(__file__).parent / name for name in ("kills.py", "kills_of_workers.py"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks by a POSIX signal")
def test_a_command_that_is_killed_and_repeated_leaves_what_an_undisturbed_one_leaves(
    tmp_path: Path,
) -> None:
    command = [sys.executable, str(KILLS), str(tmp_path / "work"), "--kills", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_800)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines()[1:]]
    commands = ["rl-collect --append", "adapt --resume", "improve --resume", "pool export"]
    assert [name for name, _, _ in rows] == commands
    assert all(int(kills) > 0 and lost == "0" for _, kills, lost in rows)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks by a POSIX signal")
def test_a_process_that_stalls_or_finds_no_room_ends_the_run_which_goes_on(tmp_path: Path) -> None:
    ways = ["stalls", "full disk"]
    command = [sys.executable, str(WORKERS), str(tmp_path / "work"), "--kills", "2", "--only"]
    done = subprocess.run([*command, *ways], capture_output=True, text=True, timeout=1_800)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines()[1:]]
    assert rows == [[way, "1", "0"] for way in ways]
