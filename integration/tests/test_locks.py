"""Every command that writes results has its folder or file to itself."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from netllm_adapt import Episode, PoolWriter
from netllm_adapt.files.locks import locked

TEST = ("test", "abr", "--policy", "bba", "--setting", "synthetic", "--episodes", "1")


@pytest.fixture
def pool(tmp_path):
    with PoolWriter(tmp_path / "pool", task="abr", setting="default", provenance={}) as writer:
        writer.add(
            Episode(
                id="one", policy="bba", seed=0, observations={}, actions=[0, 1], rewards=[0.0, 1.0]
            )
        )
    return tmp_path / "pool"


@pytest.mark.parametrize(
    ("name", "file", "command"),
    [
        ("results", False, (*TEST, "--out", "{out}")),
        ("all.csv", True, ("pool", "export", "{pool}", "{out}")),
        ("w.npz", True, ("train-baseline", "abr", "ppo", "--out", "{out}", "--steps", "1")),
    ],
    ids=["test", "pool export", "train-baseline"],
)
def test_a_second_writer_is_refused_before_it_works(netllm, tmp_path, pool, name, file, command):
    out = tmp_path / name
    words = [word.format(out=out, pool=pool) for word in command]
    with ThreadPoolExecutor(1) as other, locked(out, file=file):
        code, _, err = other.submit(netllm, *words).result()
    assert code == 1, err
    assert f"{out}: must have one writer at a time, but process {os.getpid()} on " in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool"]


def test_a_test_leaves_results_and_no_lock(netllm, tmp_path):
    assert netllm(*TEST, "--out", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "results.json").exists()
    assert not [*(tmp_path / "out").glob(".*")]
