"""A folder has one writer, and who comes second is told who that is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from netllm_adapt.files.locks import lock_names, locked

HOLD = """
import sys
from pathlib import Path
from netllm_adapt.files.locks import locked
with locked(Path(sys.argv[1]), file=sys.argv[2] == "file"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other(target: Path, kind: str = "folder") -> Iterator[subprocess.Popen[str]]:
    """Another process, which writes `target` until the block ends."""
    command = [sys.executable, "-c", HOLD, str(target), kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        out: IO[str] | None = process.stdout
        assert out is not None
        assert out.readline() == "held\n"
        try:
            yield process
        finally:
            if process.poll() is None:
                process.communicate("")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_second_writer_is_told_of_the_first(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    with other(target, kind) as process:
        says = rf"out: must have one writer at a time, but process {process.pid} on .* since 2\d+-"
        with pytest.raises(BlockingIOError, match=says), locked(target, file=kind == "file"):
            raise AssertionError("two writers")
    with locked(target, file=kind == "file"):
        pass


def test_a_lock_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "pool"):
        assert set(names(tmp_path / "new" / "pool")) <= lock_names()
    with locked(tmp_path / "new" / "all.csv", file=True):
        assert set(names(tmp_path / "new")) <= lock_names("all.csv")
    assert names(tmp_path) == []


def test_a_folder_that_was_filled_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "best").mkdir()
    assert names(tmp_path / "run") == ["best"]


def test_a_block_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_thread_that_has_the_lock_gets_it_again_and_another_thread_does_not(
    tmp_path: Path,
) -> None:
    refused = []

    def write() -> None:
        try:
            with locked(tmp_path):
                pass
        except BlockingIOError as error:
            refused.append(str(error))

    with locked(tmp_path), locked(tmp_path / ".." / tmp_path.name):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    (told,) = refused
    assert f"process {os.getpid()} on {socket.gethostname()}" in told
    write()
    assert len(refused) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
def test_a_killed_writer_keeps_nobody_out(tmp_path: Path) -> None:
    with other(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert set(names(tmp_path)) == lock_names()
    with locked(tmp_path):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "holds", [b"", b"{}", b"\xff", b'{"host": 5}', b'{"more":' + b"[" * 200_000]
)
def test_a_damaged_sign_keeps_nobody_out(tmp_path: Path, holds: bytes) -> None:
    (tmp_path / ".writer.json").write_bytes(holds)
    with locked(tmp_path):
        pass
    assert names(tmp_path) == []
