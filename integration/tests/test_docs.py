"""The pages of docs/ can be followed: their code runs as pasted, in an empty folder."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RUNNABLE = re.compile(r"^```(python|console|\{code-block\})", re.MULTILINE)
PAGES = sorted(page for page in DOCS.rglob("*.md") if RUNNABLE.search(page.read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_code_of_a_page_runs_as_pasted(
    page: Path, paste: Callable[..., dict[str, Any]]
) -> None:
    paste(page)
