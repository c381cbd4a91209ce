"""`torchrun -m netllm adapt`: several processes share a run, and it goes on after one has died."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import netllm as library
import pytest
from netllm_adapt.training.run_folder import read_log
from netllm_adapt.training.run_status import read_status

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds ranks by their environment in /proc"
)
RUN = ("--backbone", "tiny-random", "--dtype", "float32", "--layers", "1", "--rank", "2")
STEPS = ("--steps", "40", "--batch", "4", "--micro-batch", "1", "--log-every", "1")
OFTEN = ("--validate-every", "10", "--validation", "2")
PATIENCE_S = 300.0


def words(pool, out, *more):
    return ("adapt", "abr", "--pool", str(pool), "--out", str(out), *RUN, *STEPS, *OFTEN, *more)


def launched(pool, out, *more):
    """Two processes that share a run."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    command = (*torchrun, "--nproc-per-node", "2", "-m", "netllm", *words(pool, out, *more))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)


def losses(run):
    return [line["loss"] for line in read_log(run) if "loss" in line]


def figures(run):
    return [line["qoe"] for line in read_log(run) if "qoe" in line]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    out = tmp_path_factory.mktemp("several") / "pool"
    return library.rl_collect("abr", policy="bba", setting="synthetic", episodes=6, out=out).path


@pytest.fixture(scope="module")
def whole(pool, tmp_path_factory):
    """The run of one process."""
    from netllm.cli import main

    out = tmp_path_factory.mktemp("several") / "whole"
    assert main(list(words(pool, out, "--quiet"))) == 0
    return out


@pytest.mark.parametrize("how", [(), ("--shard",)])
def test_two_processes_learn_what_one_does_and_speak_once(pool, whole, tmp_path, how):
    pytest.importorskip("tensorboard", reason="needs TensorBoard")
    process = launched(pool, tmp_path / "two", "--tracker", "tensorboard", *how)
    told, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    assert losses(tmp_path / "two") == pytest.approx(losses(whole), abs=1e-4)
    assert figures(tmp_path / "two") == pytest.approx(figures(whole), abs=1e-3)
    assert told.count("The best checkpoint is") == 1
    assert len([*(tmp_path / "two" / "tensorboard").iterdir()]) == 1
    names = {path.name for path in whole.iterdir()} | {"tensorboard"}
    assert {path.name for path in (tmp_path / "two").iterdir()} == names


def test_a_dead_process_ends_the_run_which_goes_on_with_fewer(pool, whole, tmp_path, netllm):
    run = tmp_path / "cut"
    process = launched(pool, run)
    end = time.monotonic() + PATIENCE_S
    while not (run / "state.safetensors").exists():
        assert time.monotonic() < end
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    os.kill(second_rank(run), signal.SIGKILL)
    killed = time.monotonic()
    told, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert time.monotonic() - killed < 60
    assert "Signal 9 (SIGKILL)" in told
    assert read_status(run).state == "stopped"
    code, _, err = netllm(*words(pool, run, "--resume"))
    assert code == 0, err
    assert losses(run) == pytest.approx(losses(whole), abs=1e-4)


def second_rank(run):
    """The process of rank 1 that shares a run."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = ((place / name).read_bytes() for name in ("environ", "cmdline"))
        except OSError:  # ended meanwhile
            continue
        if b"\0RANK=1\0" in b"\0" + environment and str(run).encode() in command:
            return int(place.name)
    raise AssertionError("no second process")
