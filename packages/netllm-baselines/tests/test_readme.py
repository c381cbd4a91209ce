"""The README's code runs as pasted, and its install lines can be followed in a clone."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"


def test_the_code_runs_as_pasted(paste: Callable[..., dict[str, Any]]) -> None:
    learned = importlib.util.find_spec("torch") is not None
    assert "run" in paste(README, without=() if learned else ["GRU"])


def test_install_lines_work_in_a_clone(installs: Callable[[Path], list[list[str]]]) -> None:
    assert "./packages/netllm-baselines" in installs(README)[0]
