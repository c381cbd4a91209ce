"""What the figures say: the parts' tables, and the goals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from _gpu.layers import KINDS
from _gpu.timing import Row


def goals(parts: dict[str, list[Row]]) -> Iterator[tuple[str, float, bool]]:
    """What was to be reached, the worst figure of those measured, and whether it is enough."""

    def figures(part: str, column: str, *, dropout: bool = False, **ranks: Any) -> list[float]:
        low, high = ranks.get("ranks", (0, 128))
        return [
            row[column]
            for row in parts.get(part, ())
            if low <= row["rank"] <= high and bool(row.get("dropout")) == dropout
        ]

    least = {
        "PEFT's time / ours, without dropout, at least 1.33": (
            1.33, figures("operation", "PEFT / ours"),
        ),
        "PEFT's time / ours, with dropout, at least 1.45": (
            1.45, figures("operation", "PEFT / ours", dropout=True),
        ),
        "PEFT's default / ours, at least 1.9": (
            1.9, figures("operation", "PEFT default / ours"),
        ),
    }  # fmt: skip
    most = {
        "overhead over the frozen layer, rank up to 32, at most 0.12": (
            0.12, figures("operation", "overhead", ranks=(0, 32)),
        ),
        "overhead over the frozen layer, rank 128, at most 0.16": (
            0.16, figures("operation", "overhead", ranks=(128, 128)),
        ),
        "our product / cuBLAS, rank 16, at most 1.03": (
            1.03,
            [r for p in KINDS for r in figures("products", f"ours / cuBLAS {p}", ranks=(16, 16))],
        ),
        "three adapters / one, at most 1.05": (1.05, figures("mixed", "three / one")),
        "errors / eager errors in the same dtype, at most 1.25": (
            1.25,
            [
                row[backend] / row["reference"]
                for row in parts.get("correctness", ())
                for backend in ("torch", "triton")
                if backend in row
            ],
        ),
    }  # fmt: skip
    for what, (goal, found) in most.items():
        if found:
            yield what, max(found), max(found) <= goal
    for what, (goal, found) in least.items():
        if found:
            yield what, min(found), min(found) >= goal


def table(rows: list[Row]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.3f}"
        return str(value)

    widths = [max(len(key), *(len(cell(row[key])) for row in rows)) for key in rows[0]]
    lines = [rows[0].keys(), *(map(cell, row.values()) for row in rows)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(x, widths, strict=True)) for x in lines)
