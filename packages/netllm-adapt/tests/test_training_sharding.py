"""Frozen weights in parts: half of them in each of two processes, and the same gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from netllm_adapt import fit
from netllm_adapt.training.processes import joined_processes
from training_parts import EPISODES, make_model, recipe

PARTS = Path(__file__).parent / "parts"


def test_each_process_keeps_half_and_finds_the_same_gradients() -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    script = (str(PARTS / "sharded_backbones.py"), "llama", "gpt2", "gemma3")
    done = subprocess.run(
        (*torchrun, "--nproc-per-node", "2", *script),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PARTS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("told:"))
    every = json.loads(line.removeprefix("told:"))
    assert len(every) == 2
    for one in (one for process in every for one in process.values()):
        assert one["losses"] == pytest.approx([one["losses"][0]] * 3, abs=1e-4)
        assert one["furthest"] < 1e-4
        assert one["share"] == pytest.approx(0.5, abs=0.01)
        assert one["whole"] == []
        assert set(one["trained"]) == {"Parameter"}
        assert one["sharded inside"] == 0
        assert one["sharded after"]


def test_one_process_has_nobody_to_share_weights_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`shard` must be False: one process has nobody"):
        fit(make_model(), EPISODES, recipe=recipe(), out=tmp_path, shard=True)


@pytest.mark.parametrize("engine", ["FSDP", "DEEPSPEED"])
def test_engines_of_accelerate_that_know_no_adapters_are_refused(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(ValueError, match=rf"told to use {engine}, .* give `shard`"):
        joined_processes("cpu")
