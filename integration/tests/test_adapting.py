"""What adapt decides itself."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from netllm.adapting import choose_target
from netllm.protocol import Metric
from netllm.provenance import command_line


def test_a_command_is_told_without_where_files_lie(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["adapt", "abr", "--pool", str(tmp_path / "pool"), "--set", f"traces={tmp_path}/mine"]
    monkeypatch.setattr(sys, "argv", ["netllm", *words, "--backbone", "org/name", "--out", "a/b"])
    told = "netllm adapt abr --pool pool --set traces=mine --backbone org/name --out a/b"
    assert command_line() == told


@pytest.mark.parametrize(
    ("higher_is_better", "chosen"), [(True, 3.0), (False, 9.0)], ids=["higher", "lower"]
)
def test_the_target_return_is_the_one_that_validates_best(
    higher_is_better: bool, chosen: float
) -> None:
    model: Any = SimpleNamespace(target_return=0.0, task={"setting": "default"})
    metric = Metric("qoe", "QoE", higher_is_better)
    choose_target(model, [1.0, 3.0, 9.0], lambda m: {"qoe": -abs(m.target_return - 3)}, metric)
    assert model.target_return == chosen
    assert model.task == {"setting": "default", "validation qoe": -abs(chosen - 3)}
