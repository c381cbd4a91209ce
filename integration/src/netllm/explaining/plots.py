"""Plots of an explanation. Every function but `save` takes `Axes`, draws, and returns them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from netllm.explaining.explanation import Explanation
from netllm.explaining.sweeps import Sweep
from netllm.report.plots import ADAPTED, RIVALS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 10
"""Parts in a plot: those that count most."""
MOST_AGO = 30
"""Steps ago in a plot; flows have as many packets."""
SWEEPS, COLUMNS = 9, 3
"""Sweeps in a plot, and beside one another."""


def fields(ax: Axes, explanation: Explanation) -> Axes:
    """What each part added to the answer at every decision: a row per part."""
    names = [*explanation.sizes()][:MOST]
    values = np.array([[one.totals[name] for one in explanation.decisions] for name in names])
    steps = [one.step for one in explanation.decisions]
    _heat(ax, values, explanation.value)
    ax.set_yticks(range(len(names)), names)
    some = np.unique(np.linspace(0, len(steps) - 1, min(12, len(steps))).astype(int))
    ax.set_xticks(some, [str(steps[k]) for k in some])
    ax.axvline(steps.index(explanation.step), color="black", linewidth=0.8, linestyle="dotted")
    ax.set_xlabel("decision (dotted: the one of the other plots)")
    return _titled(ax, explanation, "what each field added, beside neutral")


def ago(ax: Axes, explanation: Explanation) -> Axes:
    """What each part added at the decision of `step`, by how many steps ago it was seen."""
    chosen = explanation.chosen
    names = chosen.ranked()[:MOST]
    longest = min(MOST_AGO, max(len(chosen.parts[name]) for name in names))
    values = np.full((len(names), longest), np.nan)
    for row, name in zip(values, names, strict=True):
        own = chosen.parts[name][:longest]
        row[: len(own)] = own
    _heat(ax, values[:, ::-1], explanation.value)
    ax.set_yticks(range(len(names)), names)
    some = np.arange(0, longest, 1 if longest <= 10 else 2)
    ax.set_xticks(longest - 1 - some, [str(k) for k in some])
    ax.set_xlabel("steps ago" if explanation.ago == "steps" else "points ago")
    return _titled(ax, explanation, f"decision {chosen.step}: what each field added, by when")


def attention(ax: Axes, explanation: Explanation) -> Axes:
    """Where the decision's tokens looked: mean over blocks and heads, and each block's."""
    own = explanation.attention[:, : MOST_AGO + 1]
    places = np.arange(own.shape[1])
    for layer in own:
        ax.plot(places, layer, color=RIVALS[2], linewidth=0.7, alpha=0.6)
    ax.plot([], [], color=RIVALS[2], linewidth=0.7, label="each block")
    ax.plot(places, own.mean(0), color=ADAPTED[0], linewidth=2.4, label="mean of the blocks")
    ax.set_xlim(places[-1] + 0.3, -0.3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(0, None)
    ax.set_xlabel(f"{explanation.ago} ago")
    ax.set_ylabel("share of attention")
    ax.legend(frameon=False, fontsize="small")
    _spare(ax)
    return _titled(ax, explanation, f"decision {explanation.step}: attention (not an explanation)")


def sweeps(figure: Figure, explanation: Explanation) -> None:
    """The answers to one field at other values: an axis per field, those that count most."""
    totals = explanation.chosen.ranked()
    shown = sorted(explanation.sweeps, key=lambda one: totals.index(one.part))[:SWEEPS]
    rows = -(-len(shown) // COLUMNS)
    axes = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flatten()
    answers = _most_probable(shown)
    for ax, one in zip(axes, shown, strict=False):
        _sweep(ax, one, answers)
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    label = "distance from the answer" if not answers else "probability"
    figure.supylabel(label, fontsize="medium")
    if answers:
        lines = axes[0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        f"{_where(explanation)}, decision {explanation.step}: one field at other values",
        fontsize="medium",
    )


def _most_probable(shown: list[Sweep]) -> list[int]:
    """The answers that are most probable somewhere, which get a line."""
    if not shown or shown[0].chosen is None:
        return []
    best = np.concatenate([one.answers.argmax(1) for one in shown])
    values, counts = np.unique(best, return_counts=True)
    return sorted(int(k) for k in values[np.argsort(-counts)][:6])


def _sweep(ax: Axes, one: Sweep, answers: list[int]) -> None:
    if one.chosen is None:
        ax.plot(one.values, one.answers[:, 0], color=ADAPTED[0], linewidth=2.4)
    for colour, answer in zip((*RIVALS, *ADAPTED[1:]), answers, strict=False):
        given = answer == one.chosen
        style: Any = {"color": ADAPTED[0], "linewidth": 2.4} if given else {"color": colour}
        label = f"answer {answer}" + (" (given)" if given else "")
        ax.plot(one.values, one.answers[:, answer], label=label, **style)
    ax.axvline(one.actual, color="black", linewidth=0.8, linestyle="dotted")
    if one.factors:
        ax.set_xscale("log", base=2)
        ax.set_xticks([0.25, 0.5, 1, 2, 4], ["×¼", "×½", "×1", "×2", "×4"])
        ax.minorticks_off()
    ax.set_title(one.part, loc="left", fontsize="small")
    _spare(ax)


def save(explanation: Explanation, folder: Path) -> list[Path]:
    """Draw every plot into a PNG file of a folder, each when it is complete."""
    from netllm_adapt.files.writing import new_file

    height = 1.0 + 2.4 * -(-min(SWEEPS, len(explanation.sweeps)) // COLUMNS)
    draws: dict[str, tuple[tuple[float, float], Callable[[Figure], Any]]] = {
        "fields.png": ((7.5, 4.5), lambda figure: fields(figure.subplots(), explanation)),
        "ago.png": ((7.5, 4.5), lambda figure: ago(figure.subplots(), explanation)),
        "attention.png": ((7.5, 4.0), lambda figure: attention(figure.subplots(), explanation)),
        "sweeps.png": ((9.0, height), lambda figure: sweeps(figure, explanation)),
    }
    paths = []
    for name, (size, draw) in draws.items():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        with new_file(folder / name) as work:
            figure.savefig(work, dpi=150, format="png")
        paths.append(folder / name)
    return paths


def _heat(ax: Axes, values: Any, label: str) -> None:
    most = max(float(np.nanmax(np.abs(values))), 1e-9)
    picture = ax.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    assert ax.figure is not None
    bar = ax.figure.colorbar(picture, ax=ax)
    bar.set_label(f"added to the {label.split(',')[0]}", fontsize="small")


def _titled(ax: Axes, explanation: Explanation, text: str) -> Axes:
    ax.set_title(f"{_where(explanation)}\n{text}", loc="left", fontsize="medium")
    return ax


def _where(explanation: Explanation) -> str:
    about = explanation.about
    return (
        f"{about['task']} / {about['setting']}, {about['checkpoint']}, episode {about['episode']}"
    )


def _spare(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, alpha=0.25)
    ax.set_axisbelow(True)
