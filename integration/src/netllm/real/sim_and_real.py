"""Results of real players beside those of the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from netllm.real.play_log import decision_ms
from netllm.real.session_plots import Sessions, real_sessions, save
from netllm.report.compare import verdict_of
from netllm.report.intervals import Estimate
from netllm.report.report import Report, save_document
from netllm.report.result import Result
from netllm.report.table import digits, wide_console
from netllm.report.training_seeds import difference_over_seeds

if TYPE_CHECKING:
    from netllm.real.play_log import Log
    from netllm.report.metric import Metric

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
class Pair:
    """Two contenders: how much the first is above the second, in the simulator and in reality."""

    first: str
    second: str
    simulated: Estimate
    real: Estimate
    same_sign: bool | None
    """Whether reality agrees; None where the simulator does not tell them apart."""


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

    def pairs(self) -> list[Pair]:
        """Every two contenders: whether reality agrees with the simulator on who is ahead."""
        metric = self.report.metrics[0]
        both = list(zip(self.simulated, self.report.results, strict=True))
        return [_pair(one, other, metric) for one, other in combinations(both, 2)]

    def document(self) -> dict[str, Any]:
        """The report of the real players, with what the simulator says."""
        return {
            **self.report.document(),
            "simulated": [one.document() for one in self.simulated],
            "gaps": [asdict(gap) for gap in self.gaps()],
            "pairs": [asdict(pair) for pair in self.pairs()],
        }

    def show(self) -> None:
        """Print the report, the gaps, and whether reality agrees on who is ahead."""
        self.report.show()
        console = wide_console()
        console.print(_gap_table(self.gaps(), self.report.metrics[0].label))
        if pairs := self.pairs():
            console.print(_pair_table(pairs, self.report.metrics[0].label))

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


def _pair(one: tuple[Result, Result], other: tuple[Result, Result], metric: Metric) -> Pair:
    simulated, real = (
        difference_over_seeds({"": first.episodes}, {"": second.episodes}, metric.key).estimate()
        for first, second in zip(one, other, strict=True)
    )
    apart = verdict_of(simulated, metric) in ("ahead", "behind")
    agrees = (simulated.mean > 0) == (real.mean > 0) if apart else None
    return Pair(one[0].label, other[0].label, simulated, real, agrees)


def _gap_table(gaps: Sequence[Gap], metric: str) -> Table:
    table = Table(title="simulation and reality", title_justify="left")
    for heading in ("policy", f"{metric} simulated", "real", "apart, median"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    table.add_column("decision ms p50 / p99", justify="right")
    table.add_column("decided by")
    for gap in gaps:
        who = ", ".join(f"{name} {share:.1%}" for name, share in gap.decided_by.items())
        took = f"{gap.decision_ms['p50']:.0f} / {gap.decision_ms['p99']:.0f}"
        numbers = [f"{gap.simulated:.3f}", f"{gap.real:.3f}", f"{gap.relative:.1%}"]
        table.add_row(gap.label, *numbers, took, who)
    return table


def _pair_table(pairs: Sequence[Pair], metric: str) -> Table:
    table = Table(title="who is ahead, paired by session", title_justify="left")
    table.add_column("pair")
    for heading in (f"{metric} apart, simulated", "real"):
        table.add_column(heading, justify="right")
    table.add_column("same sign")
    for pair in pairs:
        told = {True: "yes", False: "no", None: "not told apart in simulation"}[pair.same_sign]
        numbers = digits(pair.simulated, "+"), digits(pair.real, "+")
        table.add_row(f"{pair.first} − {pair.second}", *numbers, told)
    return table
