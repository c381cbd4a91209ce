"""Plots of cluster job scheduling: completion times of jobs and episodes, and who works on what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from netllm.report.metric import Metric
from netllm.report.plots import frame, short, styled
from netllm.report.result import Result, best_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def job_cdf(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The share of jobs that ended within a time, a line per policy, over all episodes."""
    for result, style in styled(best_first(results, metric), frozenset()):
        jobs_s = np.concatenate([row["jct_percentiles_s"] for row in result.episodes])
        ax.ecdf(jobs_s, label=f"{result.metrics[metric.key].mean:.1f}  {short(result)}", **style)
    frame(ax, results)
    ax.set_xscale("log")
    ax.set_xlim(left=1)
    ax.set_xlabel("completion time of a job, s")
    ax.set_ylabel("share of jobs")
    ax.legend(frameon=False, fontsize="small", title="mean", title_fontsize="small")
    return ax


def boxes(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The mean completion times of the episodes, a box per policy, the best on top."""
    ordered = best_first(results, metric)[::-1]
    means_s = [[row[metric.key] for row in result.episodes] for result in ordered]
    names = [short(result) for result in ordered]
    ax.boxplot(means_s, orientation="horizontal", tick_labels=names, showmeans=True)
    frame(ax, results)
    ax.set_xscale("log")
    ax.set_xlabel(f"{metric.label} of an episode")
    return ax


def gantt(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The start of the first episode under the checkpoint, or else the best, over the best rival.

    A row per executor, a colour per job; gaps are executors that wait or move.
    """
    from netllm_sims.cjs.gantt import draw

    ordered = sorted(best_first(results, metric), key=lambda result: result.checkpoint is None)
    rival = next((one for one in ordered[1:] if not one.checkpoint), None)
    shown = [ordered[0], *([rival] if rival else [])]
    rows = 0
    for result in shown:
        bars = np.array(result.episodes[0]["gantt"]).reshape(-1, 4)
        executors = int(bars[:, 0].max(initial=0)) + 1
        draw(bars, ax, first=rows)
        ax.text(0, rows + executors, f"{short(result)}", fontsize="small", va="bottom")
        rows += executors + 6
    frame(ax, results)
    ax.set_yticks([])
    ax.set_xlim(left=0)
    ax.set_ylabel("executors")
    ax.set_xlabel(f"s, sequence {results[0].episodes[0]['id']}, a colour per job")
    return ax
