"""The README's code runs as pasted, and its install lines can be followed in a clone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

OWN = Path(__file__).parents[1] / "README.md"
ROOT = Path(__file__).parents[2] / "README.md"


def test_the_code_runs_as_pasted(paste: Callable[..., dict[str, Any]]) -> None:
    assert "report" in paste(ROOT)
    paste(OWN)


def test_install_lines_work_in_a_clone(installs: Callable[[Path], list[list[str]]]) -> None:
    assert "./integration" in installs(OWN)[0]
    assert installs(ROOT) == [[], installs(OWN)[0]]
