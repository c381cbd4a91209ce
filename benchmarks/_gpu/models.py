"""Whole models: a step of training, and a decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import adapt_throughput
import decision_latency
import torch
from netllm_adapt import DecisionStream, load_backbone
from netllm_adapt.llama.training import library_training
from netllm_adapt.stream.cuda_graphs import on_gpu

from _gpu.timing import Place, Row, median_ms


def training(place: Place) -> Iterator[Row]:
    """Forward and backward pass of a whole model, 4 rows of 48 steps of 8 tokens."""
    ways = {
        "ours": adapt_throughput.Way("ours"),
        "PEFT": adapt_throughput.Way("PEFT", ours=False),
        "PEFT compiled": adapt_throughput.Way("PEFT compiled", ours=False),
    }
    backbone = pulled(place.backbone)
    calls = {}
    for name, way in ways.items():
        model = adapt_throughput.build(backbone, way).to(place.device)
        if name == "PEFT compiled":
            model.backbone.compile()
        calls[name] = _learn(model, adapt_throughput.rows_of(way).to(place.device))
    times = median_ms(calls, place)
    for name, value in times.items():
        yield {"backbone": backbone, "layers": name, "ms": value, "/ ours": value / times["ours"]}


def _learn(model: Any, batch: Any) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        with library_training():  # as on a GPU anyway
            model(batch).sum().backward()

    return step


def deciding(place: Place) -> Iterator[Row]:
    """One decision of a whole model, also as a CUDA graph; window 20 steps x 8 tokens."""
    backbone = pulled(place.backbone)
    model = decision_latency.build(backbone, "bfloat16").to(place.device)
    rows = decision_latency.window_batch(1).to(place.device)

    @torch.inference_mode()
    def encode() -> None:
        model.head.answer(model.hidden(rows), rows.observations)

    calls = {"decision": decision_latency.decider(model, 1, lean=None), "re-encoding": encode}
    if place.device == "cuda":
        calls["recorded"] = decision_latency.decider(model, 1, lean=False, record=on_gpu)
    times = median_ms(calls, place)
    yield {
        "backbone": backbone,
        **{f"{n} ms": t for n, t in times.items()},
        "re-encoding / decision": times["re-encoding"] / times["decision"],
        **({"recorded differs by": _recorded_differs(model)} if "recorded" in times else {}),
    }


@torch.inference_mode()
def _recorded_differs(model: Any, steps: int = 60) -> float:
    """The largest difference in hidden states of decisions that are recorded and that are not."""
    streams = [DecisionStream(model, batch=1, lean=False, record=r) for r in (None, on_gpu)]
    furthest, action = 0.0, None
    for _ in range(steps):
        seen = {n: torch.rand(1, device=model.device) for n in decision_latency.FIELDS}
        asked = seen, torch.rand(1, device=model.device), action
        plain, recorded = (stream.hidden(*asked) for stream in streams)
        furthest = max(furthest, float((plain - recorded).abs().max()))
        action = streams[0].answer(plain)
    return furthest


def pulled(name: str) -> str:
    """The backbone, or where it was not pulled one of its shape with random weights."""
    try:
        load_backbone(name)
    except FileNotFoundError:
        return f"random-{name}"
    return name
