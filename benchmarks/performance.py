"""The table of speed and memory: goal, figure and command of every measurement.

    python benchmarks/performance.py [--results DIR] [--documents] [--json FILE]

Measures nothing: it reads what the named commands wrote with `--json`. Each folder inside DIR holds
results of another machine, and is a column by its name. `--documents` puts the table between the
marks in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _documents import ROOT, put

BIG, SMALL = "smollm2-135m", "scratch-256x4"


@dataclass(frozen=True)
class Row:
    """One line; the figure, None where it was not measured, should reach the goal."""

    what: str
    script: str
    figure: Callable[[dict[str, Any]], float | None]
    least: float | None = None
    most: float | None = None
    unit: str = "x"

    @property
    def goal(self) -> str:
        if self.least is not None:
            return f"≥ {self.least:g}{self.unit}"
        return "" if self.most is None else f"≤ {self.most:g}{self.unit}"

    def told(self, value: float) -> str:
        """The figure as the table shows it."""
        return f"{value:.2f}{self.unit}" + ("" if self.meets(value) else ", missed")

    def meets(self, value: float) -> bool:
        """By the digits that are shown."""
        shown = float(f"{value:.2f}")
        return (self.least is None or shown >= self.least) and (
            self.most is None or shown <= self.most
        )


def speedup(pair: str, which: str = "mean") -> Callable[[dict[str, Any]], float]:
    return lambda d: d["summary"][f"{pair}, peft"]["both"][which]


def trained(backbone: str, which: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda d: d["backbones"][backbone].get(which)


def against_full(figure: str) -> Callable[[dict[str, Any]], float]:
    return lambda d: (
        100 * (d["methods"]["LoRA"][figure] / d["methods"]["full fine-tuning"][figure] - 1)
    )


def least_of(table: str, figure: str) -> Callable[[dict[str, Any]], float]:
    return lambda d: min(row[figure] for row in d[table].values())


def faster(way: str, than: str, key: str) -> Callable[[dict[str, Any]], float]:
    return lambda d: d["seconds"]["all"][than][key] / d["seconds"]["all"][way][key]


def peak(what: str, part: str, most: float) -> Row:
    return Row(what, "memory", lambda d: d.get(f"{part}_gib"), most=most, unit=" GiB")


def p50_ms(found: dict[str, Any], backbone: str, dtype: str) -> float | None:
    """CPU time of a decision, p50; None where another backbone was timed alone."""
    rows = found.get("rows", ())
    cases = (row for row in rows if (row["backbone"], row["dtype"]) == (backbone, dtype))
    return next((row["decision_cpu_ms"]["p50"] for row in cases), None)


ROWS = (
    Row(
        "streaming simulator: million chunks/s, batches of 1,024, full observations",
        "simulator",
        lambda d: d["chunks_per_s"]["simulator, batch 1024"] / 1e6,
        10,
        unit="",
    ),
    Row(
        "… one `gymnasium` environment: thousand steps/s",
        "simulator",
        lambda d: d["chunks_per_s"]["single environment"] / 1e3,
        30,
        unit="",
    ),
    Row(
        "cluster simulator, FIFO and Fair: million tasks/s, the slower one",
        "cjs_simulator",
        lambda d: least_of("compiled", "tasks_per_s")(d) / 1e6,
        3.6,
        unit="",
    ),
    Row(
        "… its `gymnasium` environment: thousand decisions/s",
        "cjs_simulator",
        lambda d: d["decisions_per_s"]["environment"] / 1e3,
        5,
        unit="",
    ),
    Row(
        "congestion simulator: million decisions/s, batches of 1,024",
        "cc_simulator",
        lambda d: d["decisions_per_s"]["simulator, batch 1024"] / 1e6,
        1,
        unit="",
    ),
    Row(
        "… its `gymnasium` environment: thousand decisions/s",
        "cc_simulator",
        lambda d: d["decisions_per_s"]["environment"] / 1e3,
        unit="",
    ),
    Row("LoRA layer, bf16: PEFT's time / ours", "lora_op", speedup("bfloat16"), 1.05),
    Row(
        "the same, PEFT's default of fp32 matrices",
        "lora_op",
        speedup("bfloat16, float32 matrices"),
        1.5,
    ),
    Row(
        "the same, all fp32, least of 18 shapes", "lora_op", speedup("float32", "least"), least=0.98
    ),
    Row(
        "training, SmolLM2-135M, bf16: decisions/s over the reference's structure",
        "adapt_throughput",
        trained(BIG, "total"),
        6,
    ),
    Row(
        "… with the same dtype and no checkpointing on both sides",
        "adapt_throughput",
        trained(BIG, "same_dtype"),
        1.4,
    ),
    Row(
        "… in total with products in int8, which round what is learned from",
        "adapt_throughput",
        trained(BIG, "total_int8"),
    ),
    Row("… in total with a 4x256 Llama", "adapt_throughput", trained(SMALL, "total"), 3),
    Row(
        "three adapters in one batch, bf16: time / three steps",
        "multi_adapter",
        lambda d: d["dtypes"]["bfloat16"]["ratio"]["sorted"],
        most=1.05,
    ),
    Row(
        "… fp32",
        "multi_adapter",
        lambda d: d["dtypes"]["float32"]["ratio"]["sorted"],
        most=1.05,
    ),
    Row(
        "one decision, bf16: re-encoding the window / ours",
        "decision_latency",
        lambda d: d["bfloat16"]["speedup"],
        6,
    ),
    Row("… fp32", "decision_latency", lambda d: d["float32"]["speedup"], 8),
    Row(
        "… bf16, CPU time, p50",
        "decision_latency",
        lambda d: d["bfloat16"]["decision_cpu_ms"]["p50"],
        unit=" ms",
    ),
    Row(
        "… the same with Gemma-3-270M's layers",
        "decision_latency",
        lambda d: p50_ms(d, "random-gemma3-270m", "bfloat16"),
        unit=" ms",
    ),
    Row(
        "one scheduling decision, bf16: re-encoding the window / ours",
        "cjs_decisions",
        lambda d: d["bfloat16"]["speedup"],
    ),
    Row(
        "one viewport answer: 20 passes / ours",
        "vp_answers",
        lambda d: d["latency"]["reference"]["factor"],
        20,
    ),
    peak("peak memory of adapting SmolLM2-135M, 8 x 384 tokens at once", "adapt", 2.2),
    peak("… of collecting 2,000 streaming episodes", "collect", 1),
    peak("… of testing the scheduler on `default`", "evaluate_cjs", 3),
    Row(
        "collecting 2,000 streaming episodes: one worker / two, CPU time",
        "workers",
        faster("loky", "one", "longest"),
        1.8,
    ),
    Row(
        "… two workers of Ray / two processes, CPU time",
        "workers",
        faster("loky", "ray", "longest"),
        most=1.1,
    ),
    Row(
        "LoRA's trainable share",
        "adaptation_cost",
        lambda d: 100 * d["methods"]["LoRA"]["share"],
        unit=" %",
    ),
    Row(
        "… peak memory against full fine-tuning",
        "adaptation_cost",
        against_full("peak_gib"),
        unit=" %",
    ),
    Row(
        "… time per step against full fine-tuning",
        "adaptation_cost",
        against_full("step_cpu_s"),
        unit=" %",
    ),
)


def measured(results: Path) -> Iterator[tuple[Row, float]]:
    """The rows that a result is there for, with their figures."""
    for row in ROWS:
        path = results / f"{row.script}.json"
        if path.exists():
            value = row.figure(json.loads(path.read_text(encoding="utf-8")))
            if value is not None:
                yield row, value


def others(results: Path) -> list[Path]:
    """The folders of other machines."""
    return sorted(path.parent for path in results.glob("*/lora_op.json"))


def table(results: Path) -> str:
    folders = [results, *others(results)]
    figures = [{row: row.told(value) for row, value in measured(f)} for f in folders]
    names = ["here", *(folder.name for folder in folders[1:])]
    lines = [
        f"| what | goal | {' | '.join(names)} | `python benchmarks/…` |",
        "|---|---:|" + "---:|" * len(names) + "---|",
    ]
    for row in ROWS:
        shown = [found.get(row, "") for found in figures]
        if any(shown):
            cells = " | ".join(shown)
            lines.append(f"| {row.what} | {row.goal} | {cells} | `{row.script}.py` |")
    told = [*notes(results)]
    for folder in folders[1:]:
        told += [f"- {folder.name}: {note.removeprefix('- ')}" for note in notes(folder)]
    return "\n".join([*lines, "", *told])


def notes(results: Path) -> Iterator[str]:
    """What the figures of single files say beside the table."""
    for script, told in NOTES.items():
        path = results / f"{script}.json"
        if path.exists():
            yield from told(json.loads(path.read_text(encoding="utf-8")))


def of_training(document: dict[str, Any]) -> Iterator[str]:
    """What each change brings to training, where the time goes, and the machine."""
    factors = document["backbones"][BIG]["factors"]
    told = ", ".join(f"{name} {value:.2f}x" for name, value in factors.items())
    yield f"- From the reference's structure, one change after another: {told}."
    for backbone, result in document["backbones"].items():
        parts = ", ".join(f"{part} {share:.0%}" for part, share in result["shares"].items())
        yield f"- Where the time of training {backbone} goes in the end: {parts}."
    at = document["machine"]
    speed = ", ".join(
        f"{dtype} {rate:.0f}" for dtype, rate in document.get("gflops_of_a_product", {}).items()
    )
    large = f"; GFLOP/s of one large product: {speed}" if speed else ""
    yield f"- Training on {at['cpu']}, {at['threads']} thread, torch {at['torch']}{large}."


def of_methods(document: dict[str, Any]) -> Iterator[str]:
    """What each way to adapt costs, and what it reaches."""
    of = document["quality"]
    seeds = of.get("seeds", 1)
    told = "; ".join(
        f"{name} {row['share']:.2%}, {row['peak_gib']:.2f} GiB, {row['step_cpu_s']:.2f} s, "
        f"{row['qoe']:.3f}"
        + (f" ({', '.join(f'{qoe:.3f}' for qoe in row['qoe_of_seeds'])})" if seeds > 1 else "")
        for name, row in document["methods"].items()
    )
    each = f", mean of {seeds} seeds (each)" if seeds > 1 else ""
    yield (
        "- Trainable share, peak memory, CPU time per step, and QoE with "
        f"{of['layers']} blocks after {of['steps']} steps{each}: {told}."
    )


def of_answers(document: dict[str, Any]) -> Iterator[str]:
    """What a viewport answer costs by each way, and how good and how valid it is."""
    found = {row["way"]: row for row in document["validation"]}
    told = []
    for way, row in document["latency"].items():
        text = f"{way} {row['cpu_ms']['p50']:.0f} ms"
        if way in found:
            mae, valid = found[way]["mae_deg"]["mean"], found[way]["validity"]
            text += f", {valid:.0%} valid, {mae:.2f}° ({found[way]['learned from']})"
        told.append(text)
    windows = document["arguments"]["windows"]
    yield (
        "- One viewport answer, p50 of CPU time; share of valid answers and error on "
        f"{windows} windows of the validation part: {'; '.join(told)}."
    )


def of_workers(document: dict[str, Any]) -> Iterator[str]:
    """What workers take in all, and to start."""
    names = {"one": "one worker", "loky": "two processes", "ray": "two workers of Ray"}
    whole, start = document["seconds"]["all"], document["seconds"]["start"]
    told = "; ".join(
        f"{what} {whole[name]['cpu']:.0f} s in all, of it {start[name]['cpu']:.0f} s to start and "
        f"end ({whole[name]['wall']:.0f} s by the clock)"
        for name, what in names.items()
    )
    yield (
        f"- CPU time of {document['episodes']:,} streaming episodes of `{document['policy']}`, one "
        f"thread for each worker: {told}. The table has the command's own "
        "and its busiest worker's: by the clock idle cores also wait, such as for Ray to start."
    )


NOTES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "adapt_throughput": of_training,
    "adaptation_cost": of_methods,
    "adaptation_cost-int8": of_methods,
    "vp_answers": of_answers,
    "workers": of_workers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="does nothing: it is quick")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--documents", action="store_true", help="write docs/performance.md")
    parser.add_argument("--json", type=Path, help="the figures, with their goals")
    args = parser.parse_args()
    text = table(args.results)
    print(text)
    if args.documents:
        put("docs/performance.md", "performance", text)
    if args.json:
        figures = [
            {"what": row.what, "script": row.script, "goal": row.goal, "value": value}
            | {"met": row.meets(value)}
            for row, value in measured(args.results)
        ]
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for folder in [*others(args.results), args.results]:
        rows = [(row, value) for row, value in measured(folder) if row.goal]
        where = "" if folder == args.results else f" in {folder.name}"
        met = sum(row.meets(value) for row, value in rows)
        print(f"{met} of {len(rows)} goals are met{where}")


if __name__ == "__main__":
    main()
