"""The example of a task of one's own, added without a change to anything of ours."""

import json
import tomllib
from pathlib import Path

import netllm
import numpy as np
import pytest
from netllm import registry

HERE = Path(__file__).resolve().parents[2] / "examples" / "congestion-control"
SHORT = ("--backbone", "tiny-random", "--steps", "4", "--validate-every", "2", "--validation", "4")
FLAGS = ("--steps", "4", "--batch", "2", "--validate-every", "2", "--validation", "4")


@pytest.fixture
def installed(install):
    """The package with the entry points of its pyproject."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    install(project["name"], project["version"], project["entry-points"], HERE / "src")


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
    few = ("--episode", "0", "--decisions", "2", "--episodes", "2")
    code, text, err = netllm(
        "explain", "congestion", "--checkpoint", run, "--out", tmp_path / "why", *few
    )
    assert code == 0, err
    assert "wait" in text


@pytest.mark.usefixtures("installed")
def test_its_link_neither_makes_nor_loses_traffic():
    from congestion_control.link import Senders, Setting, links
    from congestion_control.policies import KEEP, MUCH_MORE

    setting = Setting("even", mean_mbps=10.0, swing=0.0, queue_steps=2.0)
    senders = Senders(setting, links("test", 2, 0))
    rates = []
    for _ in range(9):  # by half more each: 3.75, 5.6, 8.4, 12.7, …
        senders.step(np.array([MUCH_MORE, KEEP]))
        rates.append(senders.observation()["rate_mbps"][0])
    seen = senders.observation()
    assert rates[:3] == pytest.approx([3.75, 5.625, 8.4375])
    assert seen["wait"] == pytest.approx([2.0, 0.0])  # the queue is full, the other is empty
    assert seen["lost"] == pytest.approx([1 - 10 / rates[-1], 0.0])  # the rest is delivered


@pytest.mark.usefixtures("installed")
def test_its_pools_keep_probabilities_of_a_rival_that_has_them(tmp_path):
    (soft, hard) = (
        netllm.rl_collect(
            "congestion",
            policy="aimd",
            relabel="blend",
            soft=soft,
            epsilon=0.5,
            episodes=4,
            out=tmp_path / str(soft),
        )
        for soft in (True, False)
    )
    for odds, answer in zip(soft, hard, strict=True):
        assert odds.labels.shape == (50, 5)
        np.testing.assert_allclose(odds.labels.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(odds.labels.argmax(axis=1), answer.labels)
        np.testing.assert_array_equal(odds.actions, answer.actions)
        np.testing.assert_array_equal(
            odds.observations["reward"][1:], odds.rewards[:-1]
        )  # added by the loop
        assert (odds.ended, odds.reason) == ("terminated", "the transfer is cut off")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("swings=0.3", "Unknown field 'swings'. Did you mean swing?"),
        ("steps=many", "`steps`: Expected `int`, got `str`, got 'many'"),
        ("steps=0", "`steps` must be > 0, got 0"),
    ],
)
def test_a_field_or_value_that_it_does_not_have_is_answered_as_ours_do(netllm, field, says):
    code, _, err = netllm("test", "congestion", "--episodes", "2", "--set", field)
    assert code == 2
    assert says in err


@pytest.mark.usefixtures("installed")
def test_its_settings_tell_what_they_differ_in():
    task = registry.task("congestion")
    assert task.settings() == {
        "default": "One environment configuration",
        "unseen-swing": "swing 0.4",
    }
    assert task.setting("default", swing="0.3").swing == 0.3
    with pytest.raises(ValueError, match=r"Unknown setting .unseen.\. Did you mean unseen-swing"):
        task.setting("unseen")


@pytest.mark.usefixtures("installed")
def test_the_commands_of_its_tutorial_run(netllm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (HERE / "README.md").read_text()
    commands = [line.split() for line in text.splitlines() if line.startswith("netllm ")]
    assert [words[1] for words in commands] == ["test", "rl-collect", "adapt", "test", "test"]
    for words in commands:
        short = {"rl-collect": (), "test": ("--episodes", "8"), "adapt": SHORT}[words[1]]
        few = ["8" if word == "512" else word for word in words[1:]]
        code, _, err = netllm(*few, *short)
        assert code == 0, err


def test_the_listings_of_its_tutorial_are_in_its_files():
    text = (HERE / "README.md").read_text()
    source = "".join(path.read_text() for path in sorted((HERE / "src").rglob("*.py")))
    source += (HERE / "pyproject.toml").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    blocks += [part.partition("```")[0] for part in text.split("```toml\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        for line in block.splitlines():
            assert line.strip() in source, line
