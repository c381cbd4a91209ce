"""Plots of results. Every function takes `Axes`, draws, and returns them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm.intervals import by_episode
from netllm.protocol import Draw, Metric
from netllm.report import Report, Result, best_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with every common colour vision; yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
BOUND = "#8A8A8A"


def cdf(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The share of episodes up to each value of the metric, a line per policy."""
    for result, style in _styled(best_first(results, metric)):
        values = list(by_episode(result.episodes, metric.key).values())
        mean = result.metrics[metric.key].mean
        ax.ecdf(values, label=f"{_short(result)}  {mean:.3f}", **style)
    _frame(ax, results)
    ax.set_xlabel(f"{metric.label} of an episode")
    ax.set_ylabel("share of episodes")
    low, high = _middle(results, metric)
    ax.set_xlim(low, high)
    ax.legend(frameon=False, fontsize="small", title="mean", title_fontsize="small")
    return ax


def bars(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The mean of the metric with its 95 % interval, a bar per policy, the best on top."""
    ordered = best_first(results, metric)[::-1]
    for place, result in enumerate(ordered):
        value = result.metrics[metric.key]
        low, high = value.ci95 or (value.mean, value.mean)
        error = [[value.mean - low], [high - value.mean]]
        colour = COLOURS[0] if result.checkpoint else BOUND
        ax.barh(place, value.mean, xerr=error, capsize=3, color=colour)
        ax.annotate(
            f"{value.mean:.3f}",
            (max(high, 0.0), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    _frame(ax, results)
    ax.set_yticks(range(len(ordered)), [_short(result) for result in ordered])
    ax.set_xlabel(f"mean {metric.label}, 95 % interval over {_count(results)} episodes")
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.15)
    return ax


def save(report: Report, draws: Mapping[str, Draw], folder: Path) -> list[Path]:
    """Draw every plot of every setting into PNG files of a folder."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    settings = report.settings()
    paths = []
    for setting, results in settings.items():
        for name, draw in draws.items():
            figure = Figure(figsize=(7.5, 4.5), layout="constrained")
            draw(figure.subplots(), results)
            path = folder / (name if len(settings) == 1 else f"{setting}-{name}")
            figure.savefig(path, dpi=150)
            paths.append(path)
    return paths


def _styled(results: Sequence[Result]) -> Iterator[tuple[Result, dict[str, Any]]]:
    """Adapted models in thick solid lines, everything else thinner and dashed."""
    colours = cycle(COLOURS)
    dashes = cycle(DASHES[1:])
    for result in results:
        line = DASHES[0] if result.checkpoint else next(dashes)
        yield (
            result,
            {
                "color": next(colours),
                "linestyle": line,
                "linewidth": 2.6 if result.checkpoint else 1.6,
            },
        )


def _short(result: Result) -> str:
    if result.checkpoint is None:
        return str(result.policy)
    path = Path(result.checkpoint)
    return path.parent.name if path.name in ("best", "last") else path.name


def _count(results: Sequence[Result]) -> int:
    return len({row["id"] for row in results[0].episodes})


def _middle(results: Sequence[Result], metric: Metric) -> tuple[float, float]:
    """Where all but the outermost hundredth of the values lies: a few must not set the scale."""
    values = np.array([row[metric.key] for result in results for row in result.episodes])
    low, high = np.quantile(values, (0.01, 0.99))
    pad = 0.05 * (high - low) or 0.5
    return float(low - pad), float(high + pad)


def _frame(ax: Axes, results: Sequence[Result]) -> None:
    ax.set_title(f"{results[0].task} / {results[0].setting}", loc="left", fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, alpha=0.25)
    ax.set_axisbelow(True)
