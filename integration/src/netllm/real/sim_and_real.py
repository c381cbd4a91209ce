"""Results of real players beside those of the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from netllm.real.play_log import decision_ms
from netllm.real.session_plots import Sessions, real_sessions, save
from netllm.report.report import Report, save_document
from netllm.report.result import Result
from netllm.report.table import wide_console

if TYPE_CHECKING:
    from netllm.real.play_log import Log

_WHO = {"model": "itself"}
_LEAST = 1e-9
"""What is divided by at least, where a session earned nothing."""


@dataclass(frozen=True)
class Gap:
    """One policy in the simulator and in real players."""

    label: str
    simulated: float
    """Mean of the metric that decides, in the simulator."""
    real: float
    """The same in real players."""
    relative: float
    """Median over sessions of |real - simulated| / |simulated|."""
    decision_ms: Mapping[str, float]
    """How long decisions took a player, the way to the server included: `p50` and `p99`."""
    decided_by: Mapping[str, float]
    """Share of the decisions by who made them: `itself`, the server's fallback, or `page`."""


@dataclass(frozen=True)
class RealReport:
    """What came of real players, and of the simulator on the same sessions."""

    report: Report
    """Of the real players, as `netllm test` has it."""
    simulated: Sequence[Result]
    """The same contenders in the simulator."""
    logs: Mapping[str, Mapping[str, Log]]
    """What every contender's players told, by session."""
    simulated_sessions: Mapping[str, Sessions]
    """What happened in every contender's sessions in the simulator."""

    def gaps(self) -> list[Gap]:
        """The gap between simulation and reality, for every contender."""
        key = self.report.metrics[0].key
        return [
            _gap(real, simulated, [*self.logs[real.label].values()], key)
            for real, simulated in zip(self.report.results, self.simulated, strict=True)
        ]

    def document(self) -> dict[str, Any]:
        """The report of the real players, with what the simulator says."""
        return {
            **self.report.document(),
            "simulated": [one.document() for one in self.simulated],
            "gaps": [asdict(gap) for gap in self.gaps()],
        }

    def show(self) -> None:
        """Print the report and the gaps."""
        self.report.show()
        console, metric = wide_console(), self.report.metrics[0]
        table = Table(title="simulation and reality", title_justify="left")
        for heading in ("policy", f"{metric.label} simulated", "real", "apart, median"):
            table.add_column(heading, justify="left" if heading == "policy" else "right")
        table.add_column("decision ms p50 / p99", justify="right")
        table.add_column("decided by")
        for gap in self.gaps():
            who = ", ".join(f"{name} {share:.1%}" for name, share in gap.decided_by.items())
            took = f"{gap.decision_ms['p50']:.0f} / {gap.decision_ms['p99']:.0f}"
            numbers = [f"{gap.simulated:.3f}", f"{gap.real:.3f}", f"{gap.relative:.1%}"]
            table.add_row(gap.label, *numbers, took, who)
        console.print(table)

    def plot(self, folder: Path) -> list[Path]:
        """Draw every session, simulated and real, into PNG files of a folder."""
        setting = self.report.results[0].place
        real = {who: real_sessions(logs, setting) for who, logs in self.logs.items()}
        return save(self.simulated_sessions, real, setting, folder)

    def save(self, path: Path) -> Path:
        """Write the document to a file."""
        return save_document(self.document(), path)


def _gap(real: Result, simulated: Result, logs: Sequence[Log], key: str) -> Gap:
    theirs = {row["id"]: row[key] for row in simulated.episodes}
    apart = [
        abs(row[key] - theirs[row["id"]]) / max(abs(theirs[row["id"]]), _LEAST)
        for row in real.episodes
    ]
    by = [_WHO.get(chunk.by, chunk.by) for log in logs for chunk in log.chunks if chunk.by]
    return Gap(
        real.label,
        simulated.metrics[key].mean,
        real.metrics[key].mean,
        float(np.median(apart)),
        decision_ms(logs),
        {name: by.count(name) / len(by) for name in sorted({*by})},
    )
