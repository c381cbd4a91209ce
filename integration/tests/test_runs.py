"""`netllm runs`: how many runs stand, on one page."""

import json

import netllm as library

TINY = {"backbone": "tiny-random", "dtype": "float32", "layers": 1, "rank": 2, "validation": 2}


def test_runs_stand_on_one_page(netllm, tmp_path):
    pool = tmp_path / "pool"
    library.rl_collect("abr", policy="bba", setting="synthetic", episodes=2, out=pool)
    library.adapt("abr", pool=pool, out=tmp_path / "a" / "first", steps=2, **TINY)
    library.adapt("abr", pool=pool, out=tmp_path / "second", steps=2, log_every=1, **TINY)
    (tmp_path / "second" / "finished.json").unlink()
    code, out, _ = netllm("runs", tmp_path)
    assert code == 0
    first, second = (line for line in out.splitlines() if "qoe" in line)
    assert "a/first" in first
    assert "finished" in first
    assert "2 of 2" in first
    assert "second" in second
    assert "stopped" in second
    code, out, _ = netllm("runs", tmp_path / "second", "--json")
    (one,) = json.loads(out)["runs"]
    assert (one["state"], one["step"], one["steps"], one["error"]) == ("stopped", 2, 2, "")
    assert "qoe" in one["best"]


def test_a_folder_without_runs_says_so(netllm, tmp_path):
    code, _, err = netllm("runs", tmp_path)
    assert code == 2
    assert "must hold at least one run" in err
    code, _, err = netllm("runs", tmp_path / "nowhere")
    assert code == 2
    assert "is no folder" in err
