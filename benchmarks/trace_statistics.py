"""Statistics of bandwidth traces: of published mobile sets, and of what is generated like them.

python benchmarks/trace_statistics.py [FOLDER ...] [--quick] [--json FILE] [--documents FILE]

A folder of traces, such as `netllm import abr` writes, has a row of its own. `--documents` writes
the JSON of an earlier run into docs/tasks/abr.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from _documents import put
from netllm_sims.abr import CELLULAR, cellular_trace, load_traces, trace_statistics

DOCUMENT = "docs/tasks/abr.md"
Sets = Mapping[str, Mapping[str, Mapping[str, float]]]


def measure(traces: int) -> dict[str, dict[str, dict[str, float]]]:
    """Of every published set what it is, and what so many generated traces are."""
    return {
        name: {
            "published": asdict(wanted),
            "generated": asdict(
                trace_statistics(cellular_trace(wanted, [1, i]) for i in range(traces))
            ),
        }
        for name, wanted in CELLULAR.items()
    }


def table(sets: Sets) -> str:
    """A row per set and kind."""
    head = "| set | | mean Mbit/s | deviation Mbit/s | between traces | outages | their length s |"
    lines = [f"{head} after 1 s | after 5 s |", f"|---|---{'|---:' * 7}|"]
    for name, kinds in sets.items():
        lines += [f"| `{name}` | {kind} | {_cells(found)} |" for kind, found in kinds.items()]
    return "\n".join(lines)


def _cells(found: Mapping[str, float]) -> str:
    formats = (".3g", ".3g", ".2f", ".1%", ".1f", ".2f", ".2f")
    return " | ".join(
        f"{value:{form}}" for value, form in zip(found.values(), formats, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="folders of traces")
    parser.add_argument("--quick", action="store_true", help="a tenth of the traces")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put(DOCUMENT, "cellular", table(json.loads(args.documents.read_text())))
        print(f"{DOCUMENT} now holds the table of {args.documents}")
        return
    sets = measure(30 if args.quick else 300)
    sets |= {
        str(folder): {"own": asdict(trace_statistics(load_traces(folder)))}
        for folder in args.folders
    }
    print(table(sets))
    if args.json:
        args.json.write_text(json.dumps(sets, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
