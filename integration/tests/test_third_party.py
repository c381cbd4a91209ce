"""A third party's task with no more than must be written goes wherever ours go."""

import subprocess
import sys
import tomllib
from pathlib import Path

import netllm
import pytest

POLICY = "smallest_task:Right"
SHORT = {"steps": 2, "batch": 2, "validate_every": 2, "validation": 2, "dtype": "float32"}


@pytest.fixture
def installed(install):
    points = {"netllm.tasks": {"smallest": "smallest_task:Smallest"}}
    return install("smallest-task", "0.1.0", points, Path(__file__).parent / "own")


@pytest.fixture
def program(installed, monkeypatch):
    """The program in a process of its own, in which the task is installed from the beginning."""
    monkeypatch.setenv("PYTHONPATH", installed)

    def run(*words):
        command = [sys.executable, "-m", "netllm", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.usefixtures("installed")
def test_a_task_of_nothing_but_its_required_members_is_collected_adapted_and_tested(tmp_path):
    pool = netllm.rl_collect("smallest", policy=POLICY, episodes=6, out=tmp_path / "pool")
    assert len(pool) == 6
    assert all(one.rewards.sum() == 4 for one in pool)
    run = tmp_path / "run"
    model = netllm.adapt(
        "smallest", pool=pool.path, backbone="tiny-random", out=run, patience=3, **SHORT
    )
    assert model.about["recipe"]["patience"] == 3
    assert model.encoder.config()["return_scale"] == 3.0
    report = netllm.test("smallest", policy=POLICY, checkpoint=run)
    right = {one.label: one.metrics["right"].mean for one in report.results}
    assert right[POLICY] == 1
    assert 0 <= right["run"] <= 1
    assert {len(one.episodes) for one in report.results} == {6}
    compared = [(one.rival, one.role) for one in report.comparisons]
    assert compared == [(POLICY, "best rival"), (POLICY, "teacher")]


def test_the_fields_of_its_recipe_are_flags_of_adapt(program, tmp_path):
    pool, run = tmp_path / "pool", tmp_path / "run"
    made = program("rl-collect", "smallest", "--policy", POLICY, "--episodes", 4, "--out", pool)
    assert made.returncode == 0, made.stderr
    flags = [word for k, v in SHORT.items() for word in (f"--{k.replace('_', '-')}", v)]
    learn = ("--pool", pool, "--backbone", "tiny-random", "--out", run, *flags, "--patience", 5)
    done = program("adapt", "smallest", *learn)
    assert done.returncode == 0, done.stderr
    recipe = tomllib.loads((run / "recipe.toml").read_text())
    assert recipe["patience"] == 5
    assert "multimodal" not in recipe  # a field of another task's recipe


def test_help_shows_the_fields_of_its_recipe_with_it_alone(program):
    own = program("adapt", "smallest", "--help").stdout
    assert "--patience" in own
    assert "How long it is waited. [default: 2]" in " ".join(own.replace("│", " ").split())
    assert "--multimodal" not in own
    assert "--patience" not in program("adapt", "abr", "--help").stdout


def test_a_flag_of_its_recipe_is_refused_by_another_task(program, tmp_path):
    asked = ("--pool", tmp_path, "--out", tmp_path / "run", "--patience", 5)
    refused = program("adapt", "abr", *asked)
    assert refused.returncode == 2
    assert "The recipe of abr has no `patience`. Leave out --patience" in refused.stderr
