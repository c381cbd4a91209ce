"""Tables that commands write into a README, each between two marks of its own."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def put(readme: str, mark: str, text: str) -> None:
    """Put `text` between `<!-- MARK: begin -->` and `<!-- MARK: end -->` of a README."""
    begin, end = (f"<!-- {mark}: {which} -->" for which in ("begin", "end"))
    path = ROOT / readme
    before, rest = path.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
