"""What explanations are worth: is a decision moved by the fields that `netllm explain` ranks first?

    python benchmarks/explanations.py [abr vp cjs] [--quick] [--json FILE]
    python benchmarks/explanations.py --documents FILE

The shipped checkpoint of each task plays test episodes of its own setting. Decisions spread over
them are attributed as `netllm explain` does it. Then the fields ranked highest are masked (made
neutral, at all steps that reach the decision, for encoder and head), and so are as many fields
drawn at random among all, several times. It is counted how far the chosen answer's probability
moves; of vp, whose answer is numbers, how far the predicted viewports move (root mean square over
the horizon, in degrees). The difference is paired by decision, averaged by episode, and its 95 %
interval resamples the episodes with what they share (`Task.clusters`). Three fields are masked, or
one where there are fewer than six. `--json` adds to what a file holds of other tasks. `--documents`
writes the table of such a file into docs/explain.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _documents import put
from _machine import machine
from netllm import registry
from netllm.deciders.policy_spec import of_checkpoints
from netllm.explaining.attributions import attribution
from netllm.explaining.contrast import Contrast
from netllm.explaining.decision import Part
from netllm.explaining.explainer import Explainer
from netllm.report.intervals import mean_of
from netllm.verbs.explain import load

TASKS = ("abr", "vp", "cjs")
EPISODES = {"abr": 40, "vp": 126, "cjs": 20}
CHANGED: dict[str, dict[str, Any]] = {"cjs": {"num_jobs": 40}}
"""Fields of the settings: an episode of 200 jobs has some 3,000 decisions."""
DRAWS = 4
MASKED = 3


@dataclass(frozen=True)
class Moved:
    """How far one decision was moved."""

    id: str
    ranked: float
    random: float
    """The mean over the draws."""
    left_over: float
    first: str
    """The part that is ranked first."""

    @property
    def more(self) -> float:
        return self.ranked - self.random


def moved(
    contrast: Contrast, parts: list[Part], episode: str, count: int, draw: np.random.Generator
) -> Moved:
    found = attribution(contrast, parts)
    by_name = {part.name: part for part in parts}
    ranked = [by_name[name] for name in found.ranked()[:count]]
    drawn = [draw.choice(len(parts), count, replace=False) for _ in range(DRAWS)]
    masks = [ranked, *([parts[k] for k in some] for some in drawn)]
    every = [contrast.masked(some) for some in masks]
    fields = {name: torch.cat([one[name] for one in every]) for name in every[0]}
    with torch.no_grad():
        far = contrast.distance(contrast.answers(fields)).tolist()
    left = abs(found.left_over)
    return Moved(episode, far[0], float(np.mean(far[1:])), left, ranked[0].name)


def measured(name: str, *, episodes: int, per_episode: int) -> dict[str, Any]:
    task = registry.task(name)
    place = task.setting("default", **CHANGED.get(name, {}))
    (spec,) = of_checkpoints(name, ["pretrained"], device="cpu", trust_backbone=False)
    seed = task.seeds(place)[0]
    every = task.episodes(place, "test", seed=seed)
    chosen = np.unique(np.linspace(0, len(every) - 1, min(episodes, len(every))).astype(int))
    some = [every[k] for k in chosen]
    begun = time.perf_counter()
    explainer = Explainer(task, load(spec.in_setting(place)), place, some, seed=seed)
    count = MASKED if len(explainer.parts) >= 2 * MASKED else 1
    draw = np.random.default_rng(0)
    rows = []
    for number, one in enumerate(explainer.recorded):
        decisions = explainer.decisions(number)
        steps = draw.choice(len(decisions), min(per_episode, len(decisions)), replace=False)
        for step in sorted(steps):
            contrast = explainer.contrast(decisions[int(step)])
            rows.append(moved(contrast, explainer.parts, one.id, count, draw))
        print(f"{name}: {number + 1} of {len(some)} episodes", flush=True)
    clusters = task.clusters(place, some)
    table = [{**asdict(row), "more": row.more, **_cluster(clusters, row.id)} for row in rows]
    firsts = [row.first for row in rows]
    return {
        "synthetic": place.synthetic,
        "setting": place.name,
        "overrides": CHANGED.get(name, {}),
        "fields": [part.name for part in explainer.parts],
        "neutral": explainer.neutral.text,
        "masked": count,
        "draws": DRAWS,
        "episodes": len(some),
        "decisions": len(rows),
        **{key: asdict(mean_of(table, key)) for key in ("ranked", "random", "more")},
        "ranked_first": {name: firsts.count(name) for name in dict.fromkeys(firsts)},
        "left_over": {
            name: float(np.quantile([row.left_over for row in rows], share))
            for name, share in (("median", 0.5), ("p90", 0.9))
        },
        "seconds": round(time.perf_counter() - begun),
    }


def _cluster(clusters: Any, episode: str) -> dict[str, Any]:
    return {"cluster": dict(clusters[episode])} if episode in clusters else {}


def table(tasks: Mapping[str, Any]) -> str:
    """The rows of a run, in Markdown."""
    names = ("decisions", "masked", "ranked first", "random", "difference [95 %]", "verdict")
    lines = [f"| task | {' | '.join(names)} | most often first |", f"|---|{'---:|' * 5}---|---|"]
    for name in sorted(tasks):
        found = tasks[name]
        first = max(found["ranked_first"], key=found["ranked_first"].get)
        more, ends = found["more"]["mean"], found["more"]["ci95"]
        cell = f"{more:+.3f}" + (f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else "")
        verdict = "too few episodes" if ends is None else "no more than random"
        if ends is not None and (ends[0] > 0 or ends[1] < 0):
            verdict = "more than random" if ends[0] > 0 else "less than random"
        cells = (
            f"{found['decisions']} of {found['episodes']} episodes",
            f"{found['masked']} of {len(found['fields'])}",
            *(f"{found[key]['mean']:.3f}" for key in ("ranked", "random")),
            *(cell, verdict, f"`{first}`, {found['ranked_first'][first]} times"),
        )
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=TASKS, help="of abr, vp and cjs; all if none")
    parser.add_argument("--quick", action="store_true", help="a few decisions of two episodes")
    parser.add_argument("--episodes", type=int, help="of each task; default 40, 126 and 20")
    parser.add_argument("--decisions", type=int, default=200, help="of each task, at least")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        found = json.loads(args.documents.read_text())["tasks"]
        put("docs/explain.md", "explanations", table(found))
        print(f"docs/explain.md now holds the table of {args.documents}")
        return
    kept: dict[str, Any] = {}
    if args.json and args.json.exists():
        kept = json.loads(args.json.read_text())["tasks"]
    for name in args.tasks:
        episodes = 2 if args.quick else args.episodes or EPISODES[name]
        each = 1 if args.quick else -(-args.decisions // episodes)
        kept[name] = measured(name, episodes=episodes, per_episode=each) | {"machine": machine()}
        if args.json:
            args.json.write_text(json.dumps({"tasks": kept}, indent=2) + "\n")
    print(table(kept))


if __name__ == "__main__":
    main()
