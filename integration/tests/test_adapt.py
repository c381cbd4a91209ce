"""What adapt decides itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import netllm
import pytest
from netllm.report.provenance import command_line, running_command
from netllm.task import Metric
from netllm.verbs.validation import choose_target


def test_a_command_is_told_without_where_files_lie(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["adapt", "abr", "--pool", str(tmp_path / "pool"), "--set", f"traces={tmp_path}/mine"]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "netllm",
            *words,
            "--backbone",
            "org/name",
            "https://a.b/c",
            "x=~nobody/y",
            "--out",
            "a/b",
        ],
    )
    told = "netllm adapt abr --pool pool --set traces=mine --backbone org/name https://a.b/c x=y"
    assert command_line() == f"{told} --out a/b"


@pytest.mark.parametrize(
    ("program", "known"),
    [("bin/netllm", True), ("netllm/__main__.py", True), ("pytest/__main__.py", False)],
)
def test_a_checkpoint_tells_the_command_however_the_program_was_begun(
    monkeypatch: pytest.MonkeyPatch, program: str, known: bool
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "adapt", "abr"])
    assert (running_command() is not None) is known


@pytest.mark.parametrize(
    ("higher_is_better", "chosen"), [(True, 3.0), (False, 9.0)], ids=["higher", "lower"]
)
def test_the_target_return_is_the_one_that_validates_best(
    higher_is_better: bool, chosen: float
) -> None:
    model: Any = SimpleNamespace(target_return=0.0, about={"setting": "default"})
    metric = Metric("qoe", "QoE", higher_is_better)
    choose_target(model, [1.0, 3.0, 9.0], lambda m: {"qoe": -abs(m.target_return - 3)}, metric)
    assert model.target_return == chosen
    assert model.about == {"setting": "default", "validation qoe": -abs(chosen - 3)}


def test_a_model_is_told_of_no_returns_if_its_recipe_says_so(tmp_path):
    pool = tmp_path / "pool"
    netllm.rl_collect("abr", policy="bba", relabel="ppo", setting="synthetic", episodes=2, out=pool)
    few: Any = {"backbone": "tiny-random", "steps": 2, "validation": 2, "pool": pool}
    model: Any = netllm.adapt("abr", out=tmp_path / "run", returns=False, **few)
    assert model.target_return is None
    with pytest.raises(ValueError, match="told of no returns cannot be asked for one"):
        netllm.adapt("abr", out=tmp_path / "other", returns=False, target_return=9.0, **few)


def collected(path, setting="default", **facts):
    """A pool of one episode."""
    netllm.rl_collect("abr", policy="bba", setting=setting, episodes=1, out=path, **facts)
    return path


def told(path, *collections):
    """The pool, as if it were of these collections."""
    provenance = path / "_provenance.json"
    about = json.loads(provenance.read_text())
    (one,) = about["collections"]
    about["collections"] = [one | changes for changes in collections]
    provenance.write_text(json.dumps(about))
    return path


TINY = ("--backbone", "scratch-16x1", "--steps", "1", "--validation", "1")


def adapted(netllm, pool, out, *arguments):
    return netllm("adapt", "abr", "--pool", pool, "--out", out, *TINY, *arguments)


def test_a_pool_is_not_validated_in_another_world_unless_asked(netllm, tmp_path, real_data, caplog):
    pool = collected(tmp_path / "pool", data=real_data)
    code, _, err = adapted(netllm, pool, tmp_path / "run")
    assert code == 2
    assert "collected on real data in default, but would be validated on synthetic" in err
    assert not (tmp_path / "run").exists()
    assert adapted(netllm, pool, tmp_path / "run", "--data", real_data)[0] == 0
    assert "seeded generators" not in caplog.text
    assert adapted(netllm, pool, tmp_path / "other", "--setting", "synthetic")[0] == 0
    assert (
        "synthetic has seeded generators of traces and video in place of real data" in caplog.text
    )


def test_a_pool_of_generated_data_is_not_validated_on_real_data_unless_asked(
    netllm, tmp_path, real_data
):
    pool = collected(tmp_path / "pool")
    code, _, err = adapted(netllm, pool, tmp_path / "run", "--data", real_data)
    assert (code, "--setting synthetic, or here with --setting default" in err) == (2, True), err


@pytest.mark.parametrize(
    ("collections", "says"),
    [
        ([{"data": "real"}, {"data": "synthetic"}], "mixes real and synthetic data"),
        ([{"overrides": {}}, {"overrides": {"latency_s": 0.2}}], "mixes overrides ({}; {'latency_"),
        ([{"setting": "default"}, {"setting": "synthetic"}], "mixes settings"),
    ],
)
def test_a_pool_of_mixed_worlds_needs_to_be_told_where_to_validate(
    netllm, tmp_path, collections, says
):
    pool = told(collected(tmp_path / "pool"), *collections)
    code, _, err = adapted(netllm, pool, tmp_path / "run")
    assert (code, says in err) == (2, True), err
    chosen = ("--setting", "synthetic", "--set", "latency_s=0.1")
    assert adapted(netllm, pool, tmp_path / "run", *chosen)[0] == 0


def test_what_acts_on_training_alone_may_differ_within_a_pool(netllm, tmp_path):
    pool = collected(tmp_path / "pool", "synthetic", set={"alter": 0.5})
    told(pool, {}, {"overrides": {"alter": 0.1}}, {"overrides": {}})
    assert adapted(netllm, pool, tmp_path / "run")[0] == 0


def test_a_pool_of_an_earlier_version_tells_nothing_to_compare(netllm, tmp_path):
    pool = collected(tmp_path / "pool", "synthetic")
    provenance = pool / "_provenance.json"
    about = json.loads(provenance.read_text())
    for name in ("data", "overrides"):
        del about["collections"][0][name]
    provenance.write_text(json.dumps(about))
    assert adapted(netllm, pool, tmp_path / "run")[0] == 0
