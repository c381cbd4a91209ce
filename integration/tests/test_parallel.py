"""Work is done in order, by processes that do not outlive the one that asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from operator import mul
from pathlib import Path

import pytest
from netllm.verbs.parallel import results

WAIT = """
import os, sys, time
from functools import partial
from pathlib import Path
from netllm.verbs.parallel import results

def wait(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(results([partial(wait, sys.argv[1])] * 2, jobs=2))
"""
PATIENCE_S = 120.0


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_calls(jobs: int) -> None:
    calls = [partial(mul, 2, number) for number in range(5)]
    assert list(results(calls, jobs=jobs)) == [0, 2, 4, 6, 8]


def runs(process: int) -> bool:
    """Whether a process is there and has not ended: a zombie has."""
    stat = Path("/proc", str(process), "stat")
    if stat.parent.parent.is_dir() and Path("/proc/self/stat").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="workers watch their parent on POSIX systems")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script, folder = tmp_path / "wait.py", tmp_path / "workers"
    script.write_text(WAIT)
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(folder)])
    try:
        end = time.monotonic() + PATIENCE_S
        while len(workers := [int(path.name) for path in folder.iterdir()]) < 2:
            assert time.monotonic() < end, "no two workers began"
            assert parent.poll() is None
            time.sleep(0.1)
        assert all(map(runs, workers))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    while any(map(runs, workers)):
        assert time.monotonic() < end + PATIENCE_S, f"of {workers} some outlive their parent"
        time.sleep(0.1)
