"""Tables that commands write into documents, each between two marks of its own."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def put(document: str, mark: str, text: str) -> None:
    """Put `text` between `<!-- MARK: begin -->` and `<!-- MARK: end -->` of a document."""
    before, _, after = _divided(document, mark)
    begin, end = _marks(mark)
    (ROOT / document).write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def get(document: str, mark: str) -> str:
    """What stands between the two marks."""
    return _divided(document, mark)[1].strip("\n")


def _marks(mark: str) -> tuple[str, str]:
    return f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"


def _divided(document: str, mark: str) -> tuple[str, str, str]:
    begin, end = _marks(mark)
    before, rest = (ROOT / document).read_text(encoding="utf-8").split(begin)
    between, after = rest.split(end)
    return before, between, after
