"""Plots of results. Every function takes `Axes`, draws, and returns them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm.report.intervals import by_episode, extent
from netllm.report.metric import Metric
from netllm.report.report import Report
from netllm.report.result import Result, best_first
from netllm.report.training_seeds import difference_over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from netllm.task import Draw

# Okabe and Ito's colours, told apart with every common colour vision; yellow is too pale for lines.
ADAPTED = ("#D55E00", "#CC79A7", "#E69F00")
RIVALS = ("#0072B2", "#009E73", "#56B4E9", "#000000")
BOUND = "#8A8A8A"
DASHES: tuple[Any, ...] = ("solid", (0, (6, 1.5)), (0, (2, 1)))


def cdf(
    ax: Axes, results: Sequence[Result], metric: Metric, *, bounds: frozenset[str] = frozenset()
) -> Axes:
    """The share of episodes up to each value of the metric, a line per policy.

    Lines of one recipe, which differ in their training seed, look the same; told is their mean.
    """
    spans = []
    groups = _seeds_together(best_first(results, metric))
    styles = (style for _, style in styled([some[0] for some in groups.values()], bounds))
    for (name, some), style in zip(groups.items(), styles, strict=True):
        mean = np.mean([one.metrics[metric.key].mean for one in some])
        label = f"{mean:.3f}  {name if len(some) > 1 else short(some[0])}"
        for one in some:
            values = list(by_episode(one.episodes, metric.key).values())
            spans.append((float(np.quantile(values, 0.01)), float(np.quantile(values, 0.99))))
            ax.ecdf(values, label=label, **style)
            label = "_"  # a recipe is told once
    frame(ax, results)
    ax.set_xlabel(f"{metric.label} of an episode")
    ax.set_ylabel("share of episodes")
    ax.set_xlim(*_limits(spans))
    _legend_beside(ax, title="mean")
    return ax


def bars(
    ax: Axes, results: Sequence[Result], metric: Metric, *, bounds: frozenset[str] = frozenset()
) -> Axes:
    """The mean of the metric with its 95 % interval, a bar per policy, the best on top."""
    ordered = best_first(results, metric)[::-1]
    values = [result.metrics[metric.key] for result in ordered]
    ends = [value.ci95 or (value.mean, value.mean) for value in values]
    low, high = _limits([(min(start, 0.0), max(end, 0.0)) for start, end in ends])
    for place, (result, (start, end)) in enumerate(zip(ordered, ends, strict=True)):
        mean = result.metrics[metric.key].mean
        error = [[mean - start], [end - mean]]
        colour = BOUND if result.policy in bounds else RIVALS[0]
        colour = ADAPTED[0] if result.checkpoint else colour
        ax.barh(place, mean, xerr=error, capsize=3, color=colour, alpha=0.85)
        clipped = "\N{LEFTWARDS ARROW} " if mean < low else "\N{RIGHTWARDS ARROW} " * (mean > high)
        ax.annotate(
            f"{clipped}{mean:.3f}",
            (min(max(end, 0.0), high), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    frame(ax, results)
    ax.set_xlim(low, high + 0.12 * (high - low))
    ax.set_yticks(range(len(ordered)), [short(result) for result in ordered])
    ax.set_xlabel(f"mean {metric.label}, 95 % interval over {extent(results[0].episodes)}")
    ax.grid(visible=False, axis="y")
    return ax


def boxes(
    ax: Axes, results: Sequence[Result], metric: Metric, *, bounds: frozenset[str] = frozenset()
) -> Axes:
    """The metric's quartiles over episodes, with its 5th and 95th percentile, the best on top."""
    ordered = best_first(results, metric)[::-1]
    values = [list(by_episode(result.episodes, metric.key).values()) for result in ordered]
    drawn = ax.boxplot(
        values, orientation="horizontal", whis=(5, 95), showfliers=False, patch_artist=True
    )
    for box, result in zip(drawn["boxes"], ordered, strict=True):
        colour = BOUND if result.policy in bounds else RIVALS[0]
        box.set(facecolor=ADAPTED[0] if result.checkpoint else colour, alpha=0.85)
    for line in drawn["medians"]:
        line.set_color("black")
    frame(ax, results)
    ax.set_xlim(*_limits([tuple(np.quantile(some, (0.05, 0.95))) for some in values]))
    ax.set_yticks(range(1, len(ordered) + 1), [short(result) for result in ordered])
    ax.set_xlabel(f"{metric.label} of an episode: quartiles, 5th and 95th percentile")
    ax.grid(visible=False, axis="y")
    return ax


def curves(
    ax: Axes,
    results: Sequence[Result],
    metric: Metric,
    *,
    places: Mapping[str, tuple[str, int | None]],
    axis: str,
    bounds: frozenset[str] = frozenset(),
) -> Axes:
    """The metric's mean over what was varied, a line per kind of model; others lie across.

    Args:
        ax: where it is drawn.
        results: of one setting.
        metric: which is drawn.
        places: by nickname or policy the kind of a model, and how much of `axis` it had.
        axis: what was varied.
        bounds: policies that know the future.
    """
    lines: dict[str, dict[int, list[float]]] = {
        kind: {} for kind, value in places.values() if value
    }
    across = []
    for result in best_first(results, metric):
        kind, value = places[short(result)]
        if value:
            lines[kind].setdefault(value, []).append(result.metrics[metric.key].mean)
        else:
            across.append(result)
    for (kind, of), colour in zip(lines.items(), cycle((*ADAPTED, *RIVALS)), strict=False):
        values = sorted(of)
        ends = [(min(of[one]), float(np.mean(of[one])), max(of[one])) for one in values]
        low, mean, high = np.array(ends).reshape(-1, 3).T
        error = [(mean - low).tolist(), (high - mean).tolist()]
        ax.errorbar(values, mean, error, label=kind, marker="o", capsize=3, color=colour)
    for result, style in styled(across, bounds):
        ax.axhline(result.metrics[metric.key].mean, label=short(result), **style)
    frame(ax, results)
    ax.set_xscale("log")
    ticks = sorted({value for of in lines.values() for value in of})
    ax.set_xticks(ticks, [f"{value:,}" for value in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(axis)
    ax.set_ylabel(f"mean {metric.label}; several training seeds: least to most")
    _legend_beside(ax)
    return ax


def asked(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The metric less the checkpoint's own, by the share of decisions that reach its model.

    Paired by episode; a line per checkpoint, which stands at 100 %. At 0 % its student alone, where
    it was tested as a policy.
    """
    models = [one for one in results if one.checkpoint and one.asked is None]
    for model, colour in zip(models, cycle(ADAPTED), strict=False):
        behind = [one for one in results if one.student and one.checkpoint == model.checkpoint]
        files = {f"student:{one.student}" for one in behind}
        behind += [one for one in results if one.policy in files]
        shares, means, spans = [100.0], [0.0], [(0.0, 0.0)]
        for one in sorted(behind, key=_share_asked, reverse=True):
            pair = {"": one.episodes}, {"": model.episodes}
            difference = difference_over_seeds(*pair, metric.key).estimate()
            shares.append(100 * _share_asked(one))
            means.append(difference.mean)
            spans.append(difference.ci95 or (difference.mean, difference.mean))
        error = abs(np.array(spans).T - means)
        ax.errorbar(shares, means, error, marker="o", capsize=3, color=colour, label=short(model))
    frame(ax, results)
    ax.axhline(0, color=BOUND, linewidth=0.8)
    ax.set_xlabel("% of decisions that reach the model")
    ax.set_ylabel(f"{metric.label} less the model's, 95 % interval")
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    return ax


def _share_asked(result: Result) -> float:
    """Share of a student's decisions that reach the model behind it, if there is one."""
    return result.asked or 0.0


def save(report: Report, draws: Mapping[str, Draw], folder: Path) -> list[Path]:
    """Draw every plot of every setting into PNG files of a folder, each when it is complete."""
    from matplotlib.figure import Figure
    from netllm_adapt.files.writing import new_file

    folder.mkdir(parents=True, exist_ok=True)
    settings = report.settings()
    paths = []
    for setting, results in settings.items():
        more: dict[str, Draw] = {}
        if any(one.asked is not None for one in results):
            more["asked.png"] = partial(asked, metric=report.metrics[0])
        for name, draw in {**draws, **more}.items():
            figure = Figure(figsize=(7.5, 4.5), layout="constrained")
            draw(figure.subplots(), results)
            path = folder / (name if len(settings) == 1 else f"{setting}-{name}")
            with new_file(path) as work:
                figure.savefig(work, dpi=150, format=path.suffix.removeprefix("."))
            paths.append(path)
    return paths


def styled(
    results: Sequence[Result], bounds: frozenset[str]
) -> Iterator[tuple[Result, dict[str, Any]]]:
    """Adapted models in thick warm lines, rivals in thin cool ones, bounds in dashed grey."""
    adapted = cycle((colour, dash) for dash in DASHES for colour in ADAPTED)
    rivals = cycle((colour, dash) for dash in DASHES for colour in RIVALS)
    for result in results:
        if result.checkpoint:
            colour, dash = next(adapted)
            yield result, {"color": colour, "linestyle": dash, "linewidth": 2.8, "zorder": 3}
        elif result.policy in bounds:
            yield result, {"color": BOUND, "linewidth": 1.6, "linestyle": DASHES[1]}
        else:
            colour, dash = next(rivals)
            yield result, {"color": colour, "linewidth": 1.6, "linestyle": dash}


def short(result: Result) -> str:
    """What legends and axes call it."""
    if result.checkpoint is None:
        return str(result.policy)
    if result.nickname:
        return result.nickname
    path = Path(result.checkpoint)
    return path.parent.name if path.name in ("best", "last") else path.name


def _seeds_together(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by their label, or by their recipe where there are several training seeds of it."""
    found: dict[str, list[Result]] = {}
    recipes = [one.recipe for one in results]
    for one in results:
        several = one.recipe and recipes.count(one.recipe) > 1
        found.setdefault(one.recipe if several else one.label, []).append(one)
    return found


def _legend_beside(ax: Axes, **options: Any) -> None:
    """A legend that covers no line, however many there are."""
    place: Any = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0.0}
    ax.legend(frameon=False, fontsize="small", title_fontsize="small", **place, **options)


def _limits(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Limits of an axis that shows most spans whole; one far from the others must not set them."""
    lows, highs = np.array(spans).T
    middle = np.median(highs) - np.median(lows)
    low = max(lows.min(), np.median(lows) - middle)
    high = min(highs.max(), np.median(highs) + middle)
    pad = 0.03 * (high - low) or 0.5
    return float(low - pad * (low != 0)), float(high + pad)


def frame(ax: Axes, results: Sequence[Result]) -> None:
    """What all plots share: the title, two spines, a faint grid."""
    ax.set_title(results[0].where, loc="left", fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, alpha=0.25)
    ax.set_axisbelow(True)
