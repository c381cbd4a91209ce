"""A sweep chooses recipes by validation, goes on after a kill, and is shared by workers."""

import json
import os
import signal
import subprocess
import sys
import time

import netllm as library
import pytest

pytest.importorskip("optuna", reason="needs Optuna: install netllm[sweep]")
pytest.importorskip("tensorboard", reason="needs TensorBoard")

TINY = {"backbone": "tiny-random", "dtype": "float32", "layers": 1, "validation": 2, "steps": 2}
SEARCH = {"rank": [2, 4], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "pool"
    return library.rl_collect("abr", policy="bba", setting="synthetic", episodes=4, out=out).path


def test_trials_are_runs_of_the_recipes_that_were_searched(pool, tmp_path):
    out = tmp_path / "sweep"
    how = {**TINY, "tracker": "tensorboard"}
    found = library.sweep("abr", search=SEARCH, out=out, trials=2, pool=pool, **how)
    more = library.sweep("abr", search=SEARCH, out=out, trials=3, pool=pool, **TINY)
    assert [one.run.name for one in sorted(more, key=lambda one: one.run)] == [
        "trial-0000",
        "trial-0001",
        "trial-0002",
    ]
    assert {one.run for one in found} < {one.run for one in more}
    assert {one.run for one in found} == {path.parent for path in out.glob("*/tensorboard")}
    figures = [one.figure for one in more]
    assert figures == sorted(figures, reverse=True)
    for one in more:
        recipe = json.loads((one.run / "settings.json").read_text())["recipe"]
        assert {name: recipe[name] for name in SEARCH} == one.changes
        assert 1e-4 <= recipe["learning_rate"] <= 1e-2


def words(pool, out, **more):
    file = out.parent / "sweep.toml"
    options = {"pool": str(pool), **TINY, "trials": 2, **more}
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    file.write_text("\n".join([*lines, "[search]", "rank = [2, 4]"]))
    return ("sweep", "abr", str(file), "--out", str(out))


def begun(pool, out, **more):
    command = (sys.executable, "-m", "netllm", *words(pool, out, **more), "--json")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)


def test_a_killed_worker_s_trial_is_taken_over_by_another(pool, tmp_path):
    out = tmp_path / "sweep"
    often = {"steps": 24, "validate_every": 4}
    first = begun(pool, out, **often)
    end = time.monotonic() + PATIENCE_S
    while not (state := out / "trial-0000" / "state.safetensors").exists():
        assert time.monotonic() < end
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert state.exists()
    assert not (out / "trial-0000" / "finished.json").exists()
    told, err = begun(pool, out, **often).communicate(timeout=PATIENCE_S)
    runs = {os.path.basename(one["run"]) for one in json.loads(told)["trials"]}
    assert len(runs) == 2, err
    assert "trial-0000" in runs
    assert "its worker has died" in err


def test_two_workers_share_the_trials(pool, tmp_path):
    workers = [begun(pool, tmp_path / "sweep", trials=3) for _ in range(2)]
    told = [one.communicate(timeout=PATIENCE_S) for one in workers]
    assert [one.returncode for one in workers] == [0, 0], told
    answers = [json.loads(out) for out, _ in told]
    runs = [os.path.basename(one["run"]) for one in answers[0]["trials"]]
    assert sorted(runs) == ["trial-0000", "trial-0001", "trial-0002"]
    assert answers[0] == answers[1]


def test_what_cannot_be_searched_is_refused(pool, tmp_path, netllm):
    how = {"pool": pool, "out": tmp_path / "sweep", **TINY}
    with pytest.raises(ValueError, match="Did you mean rank"):
        library.sweep("abr", search={"ranc": [1]}, **how)
    with pytest.raises(ValueError, match="at least one field"):
        library.sweep("abr", search={}, **how)
    with pytest.raises(ValueError, match="0 < low < high"):
        library.sweep("abr", search={"clip": {"low": 0, "high": 1, "log": True}}, **how)
    with pytest.raises(ValueError, match="a list of values, or have"):
        library.sweep("abr", search={"rank": {"from": 1}}, **how)
    with pytest.raises(ValueError, match="searched or given, not both"):
        library.sweep("abr", search={"steps": [1]}, **how)
    assert not (tmp_path / "sweep").exists()
    file = tmp_path / "bad.toml"
    file.write_text('pool = "x"\nstebs = 3\n[search]\nrank = [2]\n')
    code, _, err = netllm("sweep", "abr", file, "--out", tmp_path / "sweep")
    assert code == 2
    assert f"{file}:2" in err
    assert "steps" in err


def test_a_sweep_of_another_search_or_a_damaged_one_says_so(pool, tmp_path):
    out = tmp_path / "sweep"
    library.sweep("abr", search=SEARCH, out=out, trials=1, pool=pool, **TINY)
    with pytest.raises(ValueError, match=r"was begun with search="):
        library.sweep("abr", search={"rank": [8]}, out=out, trials=1, pool=pool, **TINY)
    database = out / "sweep.db"
    raw = bytearray(database.read_bytes())
    raw[:64] = bytes(64)
    database.write_bytes(raw)
    with pytest.raises(ValueError, match=r"sweep\.db: must be the storage of a sweep"):
        library.sweep("abr", search=SEARCH, out=out, trials=2, pool=pool, **TINY)
