"""Links of included READMEs to files outside docs/ lead nowhere on a page: their text stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def setup(app: Any) -> dict[str, bool]:
    """Rewrite what is included."""

    def process(_app: Any, _relative: Path, _parent: str, content: list[str]) -> None:
        content[0] = LINK.sub(r"\1", content[0])

    app.connect("include-read", process)
    return {"parallel_read_safe": True}
