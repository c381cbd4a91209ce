"""What replayed throughputs tell of a policy that did not record them, against the truth.

python benchmarks/replayed_traces.py [--quick] [--json FILE] [--documents FILE]

In the true world links have a capacity that no player changes, and every download loses 0.4 s to
its request and to TCP's slow start, five round trips of 80 ms. Each policy plays there. Then the
throughput of each of its chunks becomes a trace, as it does in data sets of what players saw, and
all policies play on these traces, where a chunk takes its bytes over that throughput. The policies
themselves are the same in both worlds, so that on what it recorded itself each plays as it did.

`--documents` writes the JSON of an earlier run into docs/replayed-traces.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from _documents import put
from netllm import registry
from netllm.report.intervals import Estimate, differences, mean_of
from netllm.report.table import digits
from netllm_sims.abr import Rollout, Session, Setting, Trace, rollout, setting

DOCUMENT = "docs/replayed-traces.md"
POLICIES = ("panda", "throughput", "soda", "bba")
START_S = 0.4
"""What a download loses at its start."""


def recorded(run: Rollout, place: Setting) -> list[Session]:
    """The sessions as a log of chunks has them.

    Each chunk's throughput holds while it is downloaded, and in the pause behind it, when the
    buffer is full.
    """
    seen, last = run.observations, run.final

    def column(name: str) -> np.ndarray:
        values = np.concatenate([seen[name], last[name][:, None]], axis=1)
        return values[..., -1] if values.ndim == 3 else values

    delay_s, buffer_s = column("delay_s"), column("buffer_s")
    before_s = np.concatenate([np.zeros((len(buffer_s), 1)), buffer_s[:, :-1]], axis=1)
    pause_s = np.maximum(before_s - delay_s, 0.0) + place.chunk_s - buffer_s
    ends_s = np.cumsum(delay_s + np.maximum(pause_s, 0.0), axis=1)
    throughput = column("throughput_mbps")
    return [
        Session(
            id, Trace(id, np.array([0.0, *ends_s[i]]), throughput[i][[0, *range(len(ends_s[i]))]])
        )
        for i, id in enumerate(run.ids)
    ]


def measure(names: Sequence[str], episodes: int) -> dict[str, Any]:
    """QoE of every policy in the true world, and on what each of them recorded."""
    truth = setting("4g-5g", rtt_s=START_S)
    replay = replace(truth, rtt_s=0.0, packet_share=1.0)
    sessions = truth.sessions("test", episodes=episodes)

    def played(name: str, place: Setting, some: Sequence[Session]) -> Rollout:
        return rollout(registry.policy("abr", name, truth), place, some, record=True)

    def rows(run: Rollout) -> list[dict[str, Any]]:
        return [{"id": id, "qoe": qoe} for id, qoe in zip(run.ids, run.qoe.tolist(), strict=True)]

    runs = {name: played(name, truth, sessions) for name in names}
    found = {name: {"truth": asdict(mean_of(rows(run), "qoe"))} for name, run in runs.items()}
    for recorder, run in runs.items():
        traces = recorded(run, truth)
        for name in names:
            error = differences(rows(played(name, replay, traces)), rows(runs[name]), "qoe")
            found[name][recorder] = asdict(error.estimate())
        print(f"{recorder} recorded {len(traces)} sessions, all replayed", flush=True)
    return {"episodes": episodes, "policies": found}


def table(document: dict[str, Any]) -> str:
    """A row per policy that is judged, a column per policy that recorded."""
    found = document["policies"]
    columns = [f"replayed from `{name}`" for name in found]
    lines = [
        f"| judged | true QoE | {' | '.join(columns)} |",
        f"|---|---:{'|---:' * len(columns)}|",
    ]
    for name, numbers in found.items():
        cells = [digits(_estimate(numbers["truth"]))]
        cells += [digits(_estimate(numbers[recorder]), "+") for recorder in found]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _estimate(document: dict[str, Any]) -> Estimate:
    mean, *low_high = (round(x, 9) + 0.0 for x in [document["mean"], *(document["ci95"] or ())])
    return Estimate(mean, (low_high[0], low_high[1]) if low_high else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="eight sessions")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put(DOCUMENT, "replayed", table(json.loads(args.documents.read_text())))
        print(f"{DOCUMENT} now holds the table of {args.documents}")
        return
    document = measure(POLICIES, 24 if args.quick else 100)
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
