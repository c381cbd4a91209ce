"""The example of a task of one's own, added without a change to anything of ours."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parents[2] / "examples" / "congestion-control"
FLAGS = ("--steps", "4", "--batch", "2", "--validate-every", "2", "--validation", "4")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as pip would install it: its modules, and the entry points of its pyproject."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / "congestion_control-0.1.0.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head)
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for folder in (info.parent, HERE / "src"):
        monkeypatch.syspath_prepend(folder)


@pytest.mark.usefixtures("installed")
def test_a_task_of_ones_own_goes_through_the_three_verbs(netllm, tmp_path):
    pool, run = tmp_path / "pool", tmp_path / "run"
    collect = ("--policy", "delay", "--policy", "aimd", "--relabel", "delay", "--episodes", "8")
    code, text, err = netllm("rl-collect", "congestion", *collect, "--out", pool)
    assert code == 0, err
    assert "labels: a second policy" in text
    learn = ("--pool", pool, "--backbone", "tiny-random", "--out", run)
    code, _, err = netllm("adapt", "congestion", *learn, *FLAGS)
    assert code == 0, err
    code, text, err = netllm(
        "test", "congestion", "--policy", "aimd", "delay", "--checkpoint", run, "--json"
    )
    assert code == 0, err
    results = {one["policy"] or "run": one for one in json.loads(text)["results"]}
    assert set(results) == {"aimd", "delay", "run"}
    utility = {name: one["metrics"]["utility"]["mean"] for name, one in results.items()}
    assert utility["delay"] > utility["aimd"]
    assert all(len(one["episodes"]) == 128 for one in results.values())


@pytest.mark.usefixtures("installed")
def test_its_link_neither_makes_nor_loses_traffic():
    from congestion_control.link import Senders, Setting, links
    from congestion_control.policies import KEEP, MUCH_MORE

    setting = Setting("even", mean_mbps=10.0, swing=0.0, queue_steps=2.0)
    senders = Senders(setting, links("test", 2, 0))
    rates = []
    for step in range(9):  # by half more each: 3.75, 5.6, 8.4, 12.7, …
        senders.step(np.array([MUCH_MORE, KEEP]), step)
        rates.append(senders.observation()["rate_mbps"][0])
    seen = senders.observation()
    assert rates[:3] == pytest.approx([3.75, 5.625, 8.4375])
    assert seen["wait"] == pytest.approx([2.0, 0.0])  # the queue is full, the other is empty
    assert seen["lost"] == pytest.approx([1 - 10 / rates[-1], 0.0])  # the rest is delivered
    with pytest.raises(ValueError, match="one whole number per sender"):
        senders.step(np.array([0.5, 0.5]), 9)
