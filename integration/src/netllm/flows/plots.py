"""Plots of flow classification. Every function takes `Axes`, draws, and returns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from netllm_sims.flows.metrics import recall_by_class

from netllm.report.metric import Metric
from netllm.report.plots import frame, short, styled
from netllm.report.result import Result, best_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def recall(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The share of each class's flows that is found, a line per policy."""
    for result, style in styled(best_first(results, metric), frozenset()):
        truth, answer = (
            np.concatenate([row[name] for row in result.episodes]) for name in ("truth", "answer")
        )
        classes = result.episodes[0]["classes"]
        names = [classes[k] for k in np.unique(truth[truth >= 0])]
        ax.plot(names, recall_by_class(truth, answer), marker="o", label=short(result), **style)
    frame(ax, results)
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("recall")
    ax.tick_params(axis="x", rotation=45)
    ax.legend(frameon=False, fontsize="small")
    return ax
