"""One answer of viewport prediction: a head in one pass, against its rivals in the paper.

    python benchmarks/vp_answers.py [--quick] [--data DIR] [--steps N] [--windows N] [--json FILE]

Latency of one 20-step answer, batch 1, one core, low-rank matrices merged, in turn and in CPU time,
since other work may share the machine. Four ways: ours (encoder, one pass, head), as it is used and
through the library's modules; the reference's structure, 20 passes of the library over 10 + k
tokens, a token per known point and per answered one, k = 0...19, without cache, each followed by
the same head (its encoding of every new point is left out, in its favour); an answer as text after
our encoder's tokens (`token`), and after the history as text (`prompt`), through the library with
its cache, as many tokens as the recorded answer has. Latency does not depend on weights, so that it
needs no training.

Then, unless `--steps 0`, both text models are trained for so many steps of 8 examples, ours on as
many with `--checkpoint fresh` (else it is the shipped one), and answer some windows of the
validation part: their error beside hold-last, and the share of valid answers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import machine
from netllm import registry
from netllm.deciders.policy_spec import PolicySpec
from netllm.report.intervals import mean_of
from netllm.report.provenance import nameable
from netllm.task import validity
from netllm.task.build_model import build_model
from netllm.vp import VP
from netllm.vp.text.predictor import TextPredictor
from netllm.vp.text.written_viewports import is_valid
from netllm.vp.text_task import Prompt, Token, train
from netllm_adapt import Forecast, Predictor
from netllm_adapt.backbone import embedding_width
from netllm_encoders import Viewport
from netllm_sims.vp import Clip, Setting
from torch import Tensor

BATCH = 8
REPEATS = {"ours": 5, "ours, library": 5}
"""Answers per round; one of the others, which take seconds."""
TEXTS: dict[str, Token] = {"token": Token(), "prompt": Prompt()}


def build(task: VP, place: Setting, args: argparse.Namespace) -> Any:
    """An untrained model with merged low-rank matrices."""
    recipe = replace(task.recipe(args.backbone), layers=args.layers, dtype=args.dtype)
    plain: Any = task
    model: Any = build_model(plain, place, args.backbone, recipe)
    model.backbone.merge_adapter()
    return model.eval()


def some_windows(place: Setting, count: int) -> list[Clip]:
    """Windows of the validation part, drawn once, still by user-video pair."""
    clips = place.clips("valid")
    owner = np.repeat(np.arange(len(clips)), [len(clip) for clip in clips])
    row = np.concatenate([np.arange(len(clip)) for clip in clips])
    drawn = np.random.default_rng(0).permutation(len(owner))[:count]
    chosen = [(clips[i], np.sort(row[drawn[owner[drawn] == i]])) for i in np.unique(owner[drawn])]
    return [
        replace(
            clip,
            history_deg=clip.history_deg[rows],
            future_deg=clip.future_deg[rows],
            time_s=clip.time_s[rows],
        )
        for clip, rows in chosen
    ]


def reference(model: Predictor, place: Setting) -> Callable[[dict[str, Tensor], Tensor], None]:
    """A pass per point over everything before it, of which every point is a token of its own."""
    horizon = place.horizon
    encoder = Viewport(width=embedding_width(model.backbone), history=place.history, group=1).eval()

    @torch.inference_mode()
    def answer(observation: dict[str, Tensor], _: Tensor) -> None:
        known = encoder.observe(observation)[:, :-1].to(model.dtype)
        assert known.shape[1] == place.history
        tokens = torch.cat([known, known[:, -1:].expand(-1, horizon - 1, -1)], dim=1)
        for k in range(horizon):
            seen = tokens[:, : known.shape[1] + k]
            hidden: Any = model.backbone(inputs_embeds=seen, use_cache=False)
            model.head.answer(hidden.last_hidden_state[:, -1], observation)

    return answer


def one_pass(model: Predictor, *, lean: bool | None) -> Callable[[dict[str, Tensor], Tensor], None]:
    forecast = Forecast(model, lean=lean)

    def answer(observation: dict[str, Tensor], _: Tensor) -> None:
        forecast.act({"viewport_deg": observation["viewport_deg"].numpy()})

    return answer


def text(model: TextPredictor) -> Callable[[dict[str, Tensor], Tensor], None]:
    def answer(observation: dict[str, Tensor], future: Tensor) -> None:
        (right,) = model.answers(future)
        model.write(observation, tokens=len(right))

    return answer


def pairs(clips: list[Clip]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Windows as tensors, again and again."""
    while True:
        for clip in clips:
            for seen, future in zip(clip.history_deg, clip.future_deg, strict=True):
                tensors = (torch.from_numpy(x[None]).float() for x in (seen, future))
                history, answer = tensors
                yield {"viewport_deg": history}, answer


def latencies(place: Setting, clips: list[Clip], args: argparse.Namespace) -> dict[str, Any]:
    ours = build(VP(), place, args)
    texts = {name: build(task, place, args) for name, task in TEXTS.items()}
    calls = {
        "ours": one_pass(ours, lean=None),
        "ours, library": one_pass(ours, lean=False),
        "reference": reference(ours, place),
        **{name: text(model) for name, model in texts.items()},
    }
    windows = pairs(clips)
    observation, future = next(windows)
    for name in ("ours", "ours, library", "reference"):
        calls[name](observation, future)
    for model in texts.values():
        model.write(observation, tokens=3)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    written: list[int] = []
    for _ in range(args.rounds):
        observation, future = next(windows)
        written.append(len(texts["token"].answers(future)[0]))
        for name, call in calls.items():
            for _ in range(REPEATS.get(name, 1)):
                cpu, wall = time.process_time(), time.perf_counter()
                call(observation, future)
                spent = (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
                times[name].append(spent)
    passes = {"reference": place.horizon} | dict.fromkeys(texts, float(np.mean(written)))
    return {name: summary(some, passes.get(name, 1)) for name, some in times.items()}


def summary(spent: list[tuple[float, float]], passes: float) -> dict[str, Any]:
    result: dict[str, Any] = {"answers": len(spent), "passes": passes}
    for clock, values in zip(("cpu_ms", "wall_ms"), np.array(spent).T, strict=True):
        p50, p99 = np.percentile(values, (50, 99))
        result[clock] = {"min": min(values), "p50": p50, "p99": p99}
    return result


def show_latencies(rows: dict[str, Any]) -> None:
    print("CPU ms of one answer   passes       min       p50       p99  wall p50  answers  to ours")
    once = rows["ours"]["cpu_ms"]["p50"]
    for name, row in rows.items():
        cpu = row["cpu_ms"]
        row["factor"] = cpu["p50"] / once
        print(
            f"{name:22}{row['passes']:7.0f}{cpu['min']:10.1f}{cpu['p50']:10.1f}{cpu['p99']:10.1f}"
            f"{row['wall_ms']['p50']:10.1f}{row['answers']:9}{row['factor']:8.1f}x",
            flush=True,
        )


@dataclass
class Checked:
    """A policy that notes how many of its answers are valid, whatever it is."""

    policy: Any
    answers: int = 0
    valid: int = 0

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        answer: np.ndarray = self.policy.act(observation)
        self.answers += len(answer)
        self.valid += int(is_valid(answer).sum())
        return answer

    @property
    def validity(self) -> float:
        own = validity(self.policy)
        return self.valid / self.answers if own is None else own


def ours_trained(place: Setting, args: argparse.Namespace, out: Path) -> tuple[Any, str]:
    """The checkpoint, or a model trained on as many examples as the text models."""
    if args.checkpoint != "fresh":
        contender = PolicySpec("vp", checkpoint=args.checkpoint)
        return contender.build(place), f"checkpoint {args.checkpoint}"
    task: Any = VP()
    recipe = replace(
        task.recipe(args.backbone),
        layers=args.layers,
        dtype=args.dtype,
        steps=args.steps,
        batch=BATCH,
        micro_batch=BATCH,
        warmup=max(1, args.steps // 10),
        validate_every=args.steps,
    )
    model = build_model(task, place, args.backbone, recipe)
    from netllm_adapt import fit

    examples = task.experience(None, place, recipe)
    fitted: Any = fit(model, examples, recipe=recipe, out=out)  # type: ignore[arg-type]
    return task.policy(fitted, place), f"{args.steps * BATCH} examples"


def text_trained(name: str, place: Setting, args: argparse.Namespace, out: Path) -> tuple[Any, str]:
    task = TEXTS[name]
    folder = getattr(args, name)
    if folder is not None:
        model = TextPredictor.from_pretrained(folder)
        return task.policy(model, place), f"checkpoint {folder}"
    model = train(
        task,
        place,
        out=out,
        backbone=args.backbone,
        steps=args.steps,
        layers=args.layers,
        dtype=args.dtype,
        batch=BATCH,
        warmup=max(1, args.steps // 10),
        validate_every=args.steps,
    )
    return task.policy(model, place), f"{args.steps * BATCH} examples"


def qualities(place: Setting, clips: list[Clip], args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as work:
        makers: dict[str, Callable[[], tuple[Any, str]]] = {
            "hold-last": lambda: (registry.policy("vp", "hold-last", place), "nothing"),
            "ours": lambda: ours_trained(place, args, Path(work, "ours")),
            "token": lambda: text_trained("token", place, args, Path(work, "token")),
            "prompt": lambda: text_trained("prompt", place, args, Path(work, "prompt")),
        }
        print("validation            MAE ° [95 %]             valid   answer ms  learned from")
        for name, make in makers.items():
            begun = time.process_time()
            policy, learned = make()
            trained_s = time.process_time() - begun
            rows.append(quality(name, Checked(policy), place, clips))
            rows[-1] |= {"learned from": learned, "training_cpu_s": trained_s}
            print(line(rows[-1]), flush=True)
    return rows


def quality(name: str, policy: Checked, place: Setting, clips: list[Clip]) -> dict[str, Any]:
    outcome = VP().rollout(policy, place, clips, seed=0)
    return {
        "way": name,
        "mae_deg": asdict(mean_of(outcome.rows, "mae_deg")),
        "validity": policy.validity,
        "windows": outcome.decisions,
        "answer_ms_batched": outcome.seconds / outcome.decisions * 1e3,
    }


def line(row: dict[str, Any]) -> str:
    mae, (low, high) = row["mae_deg"]["mean"], row["mae_deg"]["ci95"] or (np.nan, np.nan)
    cell = f"{mae:.2f} [{low:.2f}, {high:.2f}]"
    return (
        f"{row['way']:22}{cell:24}{row['validity']:6.1%}{row['answer_ms_batched']:12.1f}  "
        f"{row['learned from']}"
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds, 2 steps, 4 windows")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--layers", type=int, help="only the first so many; default: all")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--data", type=Path, help="folder of the real data, else NETLLM_DATA")
    parser.add_argument("--setting", default="default")
    parser.add_argument("--rounds", type=int, default=10, help="of the latencies; default 10")
    parser.add_argument("--steps", type=int, default=60, help=f"of batch {BATCH}; 0: no training")
    parser.add_argument("--windows", type=int, default=24, help="of the validation part")
    parser.add_argument(
        "--checkpoint",
        default="pretrained",
        help="ours: a folder, or `fresh` for one trained here",
    )
    parser.add_argument("--token", type=Path, help="a trained checkpoint instead of --steps")
    parser.add_argument("--prompt", type=Path, help="a trained checkpoint instead of --steps")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.steps, args.windows = min(args.steps, 2), min(args.windows, 4)
        args.rounds = min(args.rounds, 2)
    return args


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What was measured: every argument; of folders the name, None for all layers."""
    told = {name: value for name, value in vars(args).items() if name not in ("json", "data")}
    return nameable(told)


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    place = VP().setting(args.setting, data=args.data)
    clips = some_windows(place, args.windows)
    data = "generated" if place.synthetic else "real"
    layers = "all layers" if args.layers is None else f"{args.layers} layers"
    print(
        f"{args.backbone}, {layers}, {args.dtype}, batch 1, one core; {place.name} ({data} data), "
        f"{place.history} points known, {place.horizon} asked for"
    )
    speed = latencies(place, clips, args)
    show_latencies(speed)
    quality_rows = qualities(place, clips, args) if args.steps else []
    if args.json:
        results = {
            "machine": machine(),
            "arguments": arguments(args),
            "latency": speed,
            "validation": quality_rows,
            "synthetic": place.synthetic,
        }
        args.json.write_text(json.dumps(results, indent=2, default=float) + "\n")
    same = speed["reference"]["cpu_ms"]["p50"] / speed["ours, library"]["cpu_ms"]["p50"]
    factors = {name: f"{row['factor']:.1f}x" for name, row in speed.items()}
    valid = {row["way"]: f"{row['validity']:.0%}" for row in quality_rows}
    print(
        f"one answer: p50 {speed['ours']['cpu_ms']['p50']:.1f} ms, the reference's structure "
        f"{factors['reference']} ({same:.1f}x if both use the library), "
        f"token-based {factors['token']}, prompt {factors['prompt']}"
        + "".join(f"; {name} {valid[name]} valid" for name in ("ours", *TEXTS) if name in valid)
    )


if __name__ == "__main__":
    main()
