"""What the figures say: the parts' tables, and the goals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from _gpu.layers import KINDS
from _gpu.timing import Row

Parts = dict[str, list[Row]]
Goals = dict[str, tuple[float, list[float]]]
"""By what is asked: the bound, and the figures that must keep it."""


def goals(parts: Parts) -> Iterator[tuple[str, float, bool]]:
    """What was to be reached, the worst figure of those measured, and whether it is enough."""
    for what, (goal, found) in _at_most(parts).items():
        if found:
            yield what, max(found), max(found) <= goal
    for what, (goal, found) in _at_least(parts).items():
        if found:
            yield what, min(found), min(found) >= goal


def _at_most(parts: Parts) -> Goals:
    products = [
        ratio
        for kind in KINDS
        for ratio in _figures(parts, "products", f"ours / cuBLAS {kind}", ranks=(16, 16))
    ]
    errors = [
        row[backend] / row["reference"]
        for row in parts.get("correctness", ())
        for backend in ("torch", "triton")
        if backend in row
    ] + [row["mixed"] / row["reference"] for row in parts.get("mixed", ())]
    return {
        "overhead over the frozen layer, rank up to 32, at most 0.12": (
            0.12, _figures(parts, "operation", "overhead", ranks=(0, 32)),
        ),
        "overhead over the frozen layer, rank 128, at most 0.16": (
            0.16, _figures(parts, "operation", "overhead", ranks=(128, 128)),
        ),
        "our product / cuBLAS, rank 16, at most 1.03": (1.03, products),
        "three adapters / one, at most 1.05": (1.05, _figures(parts, "mixed", "three / one")),
        "errors / eager errors in the same dtype, at most 1.25": (1.25, errors),
    }  # fmt: skip


def _at_least(parts: Parts) -> Goals:
    return {
        "PEFT's time / ours, without dropout, at least 1.33": (
            1.33, _figures(parts, "operation", "PEFT / ours"),
        ),
        "PEFT's time / ours, with dropout, at least 1.45": (
            1.45, _figures(parts, "operation", "PEFT / ours", dropout=True),
        ),
        "PEFT's default / ours, at least 1.9": (
            1.9, _figures(parts, "operation", "PEFT default / ours"),
        ),
    }  # fmt: skip


def _figures(
    parts: Parts,
    part: str,
    column: str,
    *,
    dropout: bool = False,
    ranks: tuple[int, int] = (0, 128),
) -> list[float]:
    """A column of a part's rows, of some ranks, with or without dropout."""
    return [
        row[column]
        for row in parts.get(part, ())
        if ranks[0] <= row["rank"] <= ranks[1] and bool(row.get("dropout")) == dropout
    ]


def table(rows: list[Row]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.3f}"
        return str(value)

    widths = [max(len(key), *(len(cell(row[key])) for row in rows)) for key in rows[0]]
    lines = [rows[0].keys(), *(map(cell, row.values()) for row in rows)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(x, widths, strict=True)) for x in lines)
