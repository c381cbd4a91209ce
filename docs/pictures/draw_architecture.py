"""Draws `architecture.svg`, the picture of the README: `python docs/pictures/draw_architecture.py`.

Boxes carry their own colour and the background is transparent, so it reads on light and dark pages.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

WORLD, LEARNED, FROZEN, WORDS = "#2f6f9f", "#b4581c", "#4a5560", "#848d97"


def box(
    ax: Axes, at: tuple[float, float], size: tuple[float, float], title: str, text: str, colour: str
) -> None:
    """A rounded box with a bold title and lines under it."""
    (x, y), (width, height) = at, size
    ax.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.14", fc=colour, ec="none"
        )
    )
    ax.text(
        x + width / 2, y + height - 0.3, title, color="white", weight="bold", ha="center", va="top"
    )
    ax.text(
        x + width / 2,
        y + height - 0.72,
        text,
        color="white",
        size=8.5,
        ha="center",
        va="top",
        linespacing=1.45,
    )


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: str = "") -> None:
    """An arrow between two points."""
    style = {"arrowstyle": "-|>", "color": WORDS, "lw": 1.6, "mutation_scale": 13}
    if bend:
        style["connectionstyle"] = bend
    ax.annotate("", xy=end, xytext=start, arrowprops=style)


def note(ax: Axes, x: float, y: float, text: str) -> None:
    """Words beside an arrow."""
    ax.text(x, y, text, color=WORDS, size=8.5, ha="center", va="center", linespacing=1.35)


def draw() -> plt.Figure:
    """The way of a decision, and of what is learned."""
    figure, ax = plt.subplots(figsize=(9.6, 3.9))
    ax.set(xlim=(0, 16), ylim=(0, 6.5))
    ax.axis("off")
    top, high = 3.7, 2.5
    box(
        ax,
        (0.1, top),
        (3.3, high),
        "network",
        "video player, viewer,\ncluster: simulated\nor recorded",
        WORLD,
    )
    box(
        ax,
        (4.6, top),
        (2.7, high),
        "encoder",
        "observation, return,\naction become\ntoken vectors",
        LEARNED,
    )
    box(ax, (8.1, top), (3.5, high), "language model", "frozen; keys and\nvalues are kept", FROZEN)
    box(ax, (8.35, top + 0.2), (3.0, 0.75), "", "", LEARNED)
    ax.text(
        9.85, top + 0.575, "low-rank matrices", color="white", size=8.5, ha="center", va="center"
    )
    box(
        ax,
        (12.4, top),
        (3.4, high),
        "head",
        "a valid answer\nin one pass:\nrate, viewport, stage",
        LEARNED,
    )
    middle = top + high / 2
    for start, end in ((3.4, 4.45), (7.45, 8.1), (11.6, 12.4)):
        arrow(ax, (start + 0.08, middle), (end - 0.08, middle))
    box(ax, (0.1, 0.3), (3.3, 1.9), "rivals, teachers", "rules, planners,\nlearned policies", WORLD)
    box(ax, (4.45, 0.3), (3.0, 1.9), "pool", "experience,\nas Parquet files", FROZEN)
    box(
        ax,
        (12.4, 0.3),
        (3.4, 1.9),
        "report",
        "paired intervals,\neveryone in the\nsame episodes",
        FROZEN,
    )
    arrow(ax, (1.75, 2.28), (1.75, top - 0.08))
    arrow(ax, (3.48, 1.25), (4.37, 1.25))
    arrow(ax, (5.95, 2.28), (5.95, top - 0.08))
    arrow(ax, (14.1, top - 0.08), (14.1, 2.28))
    note(ax, 9.85, 1.25, "orange: learned for each task\nblue: where experience comes from")
    note(ax, 3.93, 0.78, "collect")
    note(ax, 6.55, 2.95, "adapt")
    note(ax, 14.6, 2.95, "test")
    ax.plot((14.1 - 1.2, 14.1 - 1.2, 2.4), (top - 0.1, 2.75, 2.75), color=WORDS, lw=1.6)
    arrow(ax, (2.4, 2.75), (2.4, top - 0.08))
    note(ax, 9.85, 3.05, "the answer changes what is seen next")
    return figure


def main() -> None:
    plt.rcParams |= {"svg.hashsalt": "netllm", "font.size": 10.5, "font.family": "DejaVu Sans"}
    file = Path(__file__).with_name("architecture.svg")
    draw().savefig(file, transparent=True, bbox_inches="tight", metadata={"Date": None})
    print(f"{file.name} is drawn.")


if __name__ == "__main__":
    main()
