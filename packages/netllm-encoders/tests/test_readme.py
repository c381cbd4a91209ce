"""The README's code runs as pasted, and its install lines can be followed in a clone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"


def test_the_code_runs_as_pasted(paste: Callable[..., dict[str, Any]]) -> None:
    assert "twin" in paste(README)


def test_install_lines_work_in_a_clone(installs: Callable[[Path], list[list[str]]]) -> None:
    assert "./packages/netllm-encoders" in installs(README)[0]
