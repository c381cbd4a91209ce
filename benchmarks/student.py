"""A student of the shipped abr model: its quality and cost, alone and before the model.

    python benchmarks/student.py [--quick] [--student FILE] [--out FOLDER] [--json FILE]
    python benchmarks/student.py --documents FILE

Distils the model (some ten minutes on two cores) unless a student's file is named, and tests on
setting `default` the student, the model, and the model behind the student with every threshold that
was tried on validation; the one chosen there is marked. FOLDER gets the report of `netllm test`, of
which `asked.png` is the plot of quality by the share of decisions that reach the model. Cost is CPU
time of a decision in one session on one core; where the model is asked, the steps that it missed
are in it. `--documents` writes the table of an earlier run's JSON into docs/tasks/abr.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import netllm
import numpy as np
import torch
from _documents import put
from _machine import machine
from _timing import timed_in_turn
from netllm import registry
from netllm.abr.student import Student
from netllm.deciders.policy_spec import PolicySpec
from netllm.deciders.when_unsure import WhenUnsure
from netllm.report.plots import save
from netllm.report.report import Report

RECIPE = {"rounds": 5, "episodes": 256, "validation": 200}
QUICK = {"rounds": 1, "episodes": 4, "validation": 4}


def costs(student: Path, below: float, sessions: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a decision, of one session after the other."""
    task = registry.task("abr")
    place = task.setting("default")
    model = PolicySpec("abr", checkpoint="pretrained").build(place)
    own = Student(place, weights=student)
    both = WhenUnsure(own, model, below=below)
    episodes = task.episodes(place, "valid", count=sessions, seed=2)
    policies = {"student": own, "model": model, "both": both}
    timed = timed_in_turn(task, [*policies.values()], place, episodes)
    found = {}
    for name, one in zip(policies, timed, strict=True):
        spent, asked = np.array(one.spent_ms), np.array(one.asked)
        found[name] = {"p50": float(np.median(spent)), "mean": float(spent.mean())}
        if asked.any():
            found[name]["asked"] = float(asked.mean())
            found[name]["asked_p50"] = float(np.median(spent[asked]))
    return found


def rows(report: Report, student: Path, chosen: float) -> list[dict[str, Any]]:
    """The student, the model behind it by threshold, and the model: each beside the model."""
    results = {one.label: one for one in report.results}
    model = results["pretrained"]
    differences = {
        one.checkpoint if one.role == "checkpoint" else one.rival: one
        for one in report.comparisons
        if one.subset == "all" and "pretrained" in (one.checkpoint, one.rival)
    }
    found = []
    for one in sorted(results.values(), key=share):
        told = differences.get(one.label)
        sign = -1 if told is not None and told.checkpoint == "pretrained" else 1
        ends = told.difference.ci95 if told is not None else None
        found.append(
            {
                "when_unsure": one.when_unsure,
                "chosen": one.when_unsure == chosen,
                "asked": share(one),
                "qoe": one.metrics["qoe"].mean,
                "of_the_model": one.metrics["qoe"].mean / model.metrics["qoe"].mean,
                "difference": ends and sorted(sign * end for end in ends),
            }
        )
    return found


def share(result: Any) -> float:
    """Of the decisions that reach the model."""
    if result.asked is not None:
        return float(result.asked)
    return 1.0 if result.checkpoint else 0.0


def measured(student: Path, out: Path, *, quick: bool) -> dict[str, Any]:
    """The student's figures; the report goes to a folder."""
    about = json.loads(student.with_name("student.json").read_text())
    thresholds = [one["when_unsure"] for one in about["unsure"] if one["when_unsure"]]
    report = netllm.test(
        "abr",
        policy=f"student:{student}",
        checkpoint="pretrained",
        student=student,
        when_unsure=thresholds,
        setting="default",
        **({"episodes": 3} if quick else {}),
    )
    report.save(out / "results.json")
    save(report, {}, out)
    keys = ("rounds", "episodes", "seed", "round", "validation", "model", "when_unsure", "unsure")
    return {
        "machine": machine(),
        "bytes": student.stat().st_size,
        "distilled": {key: about[key] for key in keys},
        "test": rows(report, student, about["when_unsure"]),
        "cost_ms": costs(student, about["when_unsure"], 1 if quick else 12),
    }


def table(document: Mapping[str, Any]) -> str:
    """The rows of a run, in Markdown."""
    cost = document["cost_ms"]
    names = ("decisions that reach the model", "QoE", "of the model's", "difference [95 %]")
    lines = [f"| who decides | {' | '.join(names)} |", f"|---|{'---:|' * 4}"]
    for one in document["test"]:
        who = "the model" if one["asked"] == 1 else "the student"
        if one["when_unsure"]:
            who = f"the student, the model below {one['when_unsure']:.2f}"
        who = f"**{who}**" if one["chosen"] else who
        apart = "[{:+.3f}, {:+.3f}]".format(*one["difference"]) if one["difference"] else ""
        figures = f"{one['asked']:.1%} | {one['qoe']:.3f} | {one['of_the_model']:.2%}"
        lines.append(f"| {who} | {figures} | {apart} |")
    both = cost["both"]
    lines += [
        "",
        f"A decision takes the student {cost['student']['p50']:.2f} ms on one core "
        f"({document['machine']['cpu']}), the model {cost['model']['p50']:.1f} ms. Where it "
        f"asks below {document['distilled']['when_unsure']:.2f}, a decision that reaches the model "
        f"takes {both['asked_p50']:.1f} ms, what the model missed included, and the mean decision "
        f"{both['mean']:.2f} ms, {both['mean'] / cost['model']['mean']:.0%} of the model's. The "
        f"student's file has {document['bytes'] / 1e6:.2f} MB.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a bad student, few sessions")
    parser.add_argument(
        "--student", type=Path, help="file of `netllm distil`, of the shipped model"
    )
    parser.add_argument("--out", type=Path, help="folder of the report, and of the student")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put("docs/tasks/abr.md", "student", table(json.loads(args.documents.read_text())))
        print(f"docs/tasks/abr.md now holds the table of {args.documents}")
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch)
        recipe: dict[str, Any] = QUICK if args.quick else RECIPE
        distil = partial(netllm.distil, "abr", checkpoint="pretrained", resume=True, **recipe)
        student = args.student or distil(out=out / "student").file
        document = measured(student, out, quick=args.quick)
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
