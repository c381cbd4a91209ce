"""A checkpoint on a model hub is tested by its name, as one in a folder is."""

import json
import os
import re
import subprocess
import sys

import pytest
from hub_server import hub
from netllm import registry
from netllm.task.build_model import build_model
from netllm_adapt import Recipe

RECIPE = Recipe(layers=1, rank=2, dtype="float32")
SMALL = ("--policy", "bba", "--setting", "synthetic", "--episodes", "1", "--json")


@pytest.fixture
def server(tmp_path):
    task = registry.task("abr")
    model = build_model(task, task.setting("synthetic"), "tiny-random", RECIPE)
    model.about |= {"task": "abr", "setting": "synthetic"}
    folder = model.save_pretrained(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with hub() as started:
        started.repos = {"me/abr": [files], "me/llm": [{"config.json": b"{}", "run.py": b"1/0"}]}
        yield started


def run(server, tmp_path, *arguments):
    """A process of its own, as huggingface_hub reads its settings when it is imported."""
    told = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
    own = re.compile(r"(HF_|HUGGING).*|.*_PROXY", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not own.fullmatch(name)}
    return subprocess.run(
        [sys.executable, "-m", "netllm", "test", *arguments],
        env=kept | told,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_checkpoint_of_the_hub_is_tested_by_its_name(server, tmp_path):
    done = run(server, tmp_path, "abr", "--checkpoint", "me/abr", "--quiet", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "Fetching" not in done.stderr
    results = json.loads(done.stdout)["results"]
    assert [one["checkpoint"] for one in results] == [None, "me/abr"]
    assert {"adapter_model.safetensors", "encoder.safetensors"} <= {*server.downloads()}
    listings = [told for told in server.asked if "/api/models/" in told and "/tree/" not in told]
    assert len(listings) <= 2  # once, not once an episode


def test_another_model_of_the_hub_is_named_as_no_checkpoint(server, tmp_path):
    done = run(server, tmp_path, "abr", "--checkpoint", "me/llm", *SMALL)
    assert done.returncode == 2
    assert "me/llm: the hub's model of this name is no checkpoint" in done.stderr
    assert "run.py" not in server.downloads()


def test_a_misspelt_folder_is_not_looked_for_on_the_hub(netllm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    code, _, err = netllm("test", "abr", "--checkpoint", "runs/mnie", *SMALL)
    assert code == 2
    assert "holds no checkpoint" in err
