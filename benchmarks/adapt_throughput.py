"""Decisions learned per second: this project's trainer against the reference's structure.

    python benchmarks/adapt_throughput.py [--quick] [--backbone NAME] [--json FILE]

The reference's structure is one window of 20 steps x 8 tokens at a time, float32, gradient
checkpointing, PEFT's own layers, the library's modules. From there to here one thing is changed at
a time, on the same backbone, encoder and head, and each change's factor is printed. The last one,
products in int8, rounds what is learned from; totals are told without and with it, and it is left
out where the processor has no fast ones. CPU time on one core, the ways in turn, the fastest of
several rounds. `4x256` is a Llama of four layers of width 256. Last comes where the time of the
last exact way goes, by clocks about its parts.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _machine import machine
from _timing import least_cpu_s
from netllm_adapt import AdaptedModel, BackboneSpec, add_lora, load_backbone
from netllm_adapt.batches import Batch
from netllm_adapt.llama.gradients import Attend, Gated, NormOfSum
from netllm_adapt.llama.training import library_training
from netllm_adapt.lora import has_int8, int8_products
from netllm_encoders import Step
from netllm_heads import Categorical
from peft import LoraConfig, get_peft_model
from torch import nn

FIELDS = {name: {"kind": "scalar"} for name in ("a", "b", "c", "d", "e", "f")}
TOKENS, WINDOW, EPISODE, RANK, ACTIONS = 8, 20, 48, 32, 6
SMALL = "scratch-256x4"


@dataclass(frozen=True)
class Way:
    """How a step is computed; `rows` of `steps` steps go through at once."""

    name: str
    dtype: str = "bfloat16"
    checkpointing: bool = False
    ours: bool = True
    lean: bool = True
    rows: int = 4
    steps: int = EPISODE
    int8: bool = False

    @contextmanager
    def settings(self) -> Iterator[None]:
        """The context that its passes need."""
        through = nullcontext() if self.lean else library_training()
        products = int8_products() if self.int8 else nullcontext()
        with through, products:
            yield


WAYS = (
    Way("reference's structure", "float32", True, False, False, 1, WINDOW),
    Way("no checkpointing", "float32", False, False, False, 1, WINDOW),
    Way("bfloat16", "bfloat16", False, False, False, 1, WINDOW),
    Way("this project's layers", "bfloat16", False, True, False, 1, WINDOW),
    Way("lean pass", "bfloat16", False, True, True, 1, WINDOW),
    Way("whole episodes in batches"),
)
INT8 = Way("products in int8", int8=True)


def adapted(backbone: str, way: Way) -> Any:
    plain = load_backbone(backbone, dtype=way.dtype)
    for weight in plain.parameters():
        weight.requires_grad_(False)
    if way.ours:
        return add_lora(plain, rank=RANK, alpha=2 * RANK)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "v_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(plain, config)


def build(backbone: str, way: Way) -> AdaptedModel:
    torch.manual_seed(0)
    lora = adapted(backbone, way)
    if way.checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lora.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    width = lora.config.hidden_size
    model = AdaptedModel(
        backbone=lora,
        encoder=Step(width=width, fields=FIELDS, actions=ACTIONS),
        head=Categorical(width=width, answers=ACTIONS),
        spec=BackboneSpec(backbone, dtype=way.dtype),
        window=WINDOW,
        segment=EPISODE * TOKENS,
    )
    return model.train()


def rows_of(way: Way) -> Batch:
    shape = (way.rows, way.steps)
    return Batch(
        observations={name: torch.rand(shape) for name in FIELDS},
        returns=torch.rand(shape),
        actions=torch.randint(ACTIONS, shape),
        labels=torch.randint(ACTIONS, shape),
        learn=torch.ones(shape, dtype=torch.bool),
    )


class Learner:
    """Optimiser steps of one way, over about as many decisions as the others'."""

    def __init__(self, backbone: str, way: Way, decisions: int) -> None:
        self.way = way
        self.model = build(backbone, way)
        self.batch = rows_of(way)
        self.passes = max(1, round(decisions / (way.rows * way.steps)))
        self.decisions = self.passes * way.rows * way.steps
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, fused=True)
        self.best = math.inf

    def learn(self) -> None:
        """The gradients of one pass."""
        (self.model(self.batch).sum() / self.decisions).backward()

    def step(self) -> None:
        start = time.process_time()
        for _ in range(self.passes):
            self.learn()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.best = min(self.best, (time.process_time() - start) / self.decisions)


PARTS: dict[str, Any] = {"attention": Attend, "sums and norms": NormOfSum, "gates": Gated}
LARGE, STEPS = 2048, 5


def shares(learner: Learner) -> dict[str, float]:
    """What frozen products need of the fastest of some steps, and what the lean pass's parts take.

    They need it at the speed of one large product. The rest is what they take beyond that, low-rank
    products, encoder, head, optimiser and Python. A profiler would count small calls too heavily.
    """
    steps = []
    with learner.way.settings():
        learner.learn()
        for _ in range(STEPS):
            learner.best = math.inf
            with timed() as spent:
                learner.step()
            steps.append((learner.best * learner.decisions, spent))
    whole, spent = min(steps, key=lambda step: step[0])
    found = {"frozen products at full speed": frozen_s(learner) / whole}
    found |= {part: seconds / whole for part, seconds in spent.items()}
    return found | {"the rest": 1 - sum(found.values())}


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """CPU seconds of each of `PARTS` in this context, both passes."""
    spent, own = dict.fromkeys(PARTS, 0.0), []

    def watched(call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.process_time()
            result = call(*args)
            spent[part] += time.process_time() - start
            return result

        return run

    for part, function in PARTS.items():
        for name in ("forward", "backward"):
            own.append((function, name, function.__dict__[name]))
            setattr(function, name, staticmethod(watched(getattr(function, name), part)))
    try:
        yield spent
    finally:
        for function, name, call in own:
            setattr(function, name, call)


def frozen_s(learner: Learner) -> float:
    """CPU seconds of a step's products of frozen layers, at the speed of one large product.

    In the last block only keys and values are of all tokens.
    """
    dtype = next(learner.model.backbone.parameters()).dtype
    rate = product_rate(dtype)
    layers = learner.model.backbone.get_base_model().layers
    last, whole = f"{len(layers) - 1}.", ("k_proj", "v_proj")
    numbers = 0
    for name, module in layers.named_modules():
        if isinstance(module, nn.Linear) and not module.weight.requires_grad:
            some = name.startswith(last) and not any(part in name for part in whole)
            numbers += module.weight.numel() * (learner.model.head.reads if some else TOKENS)
    both_passes = 2 * 2 * numbers  # the output, and the gradient of the input
    return both_passes * learner.decisions / rate


def product_rate(dtype: torch.dtype) -> float:
    """Operations per CPU second of one large product."""
    square = torch.randn(LARGE, LARGE).to(dtype)
    return 2 * LARGE**3 / least_cpu_s(lambda: F.linear(square, square), 5)


def take_turns(learners: Iterable[Learner], rounds: int) -> None:
    for turn in range(rounds + 1):
        for learner in learners:
            with learner.way.settings():
                learner.learn()  # a step in the middle of many finds what the last one left
                learner.step()
            if not turn:  # the first warms up
                learner.best = math.inf


def measure(
    backbone: str, decisions: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Decisions per CPU second of each way, and where the last exact one's time goes."""
    ways = (*WAYS, INT8) if has_int8() else WAYS
    learners = {way.name: Learner(backbone, way, decisions) for way in ways}
    take_turns(learners.values(), rounds)
    rates = {name: 1 / learner.best for name, learner in learners.items()}
    return rates, shares(learners[WAYS[-1].name])


def report(backbone: str, rates: dict[str, float], parts: dict[str, float]) -> dict[str, Any]:
    names = list(rates)
    factors = {b: rates[b] / rates[a] for a, b in pairwise(names)}
    print(f"{backbone:28} decisions / CPU s    factor")
    for name, rate in rates.items():
        print(f"  {name:26} {rate:17.1f} {factors.get(name, 1.0):8.2f}x", flush=True)
    exact = rates[WAYS[-1].name]
    result: dict[str, Any] = {
        "decisions_per_cpu_s": rates,
        "factors": factors,
        "total": exact / rates[names[0]],
        "same_dtype": exact / rates["bfloat16"],
        "shares": parts,
    }
    print(
        f"  in total {result['total']:.2f}x, of which {result['same_dtype']:.2f}x with the same "
        "dtype and no checkpointing"
    )
    if INT8.name in rates:
        result["total_int8"] = rates[INT8.name] / rates[names[0]]
        print(f"  with products in int8 {result['total_int8']:.2f}x in total")
    told = ", ".join(f"{part} {share:.0%}" for part, share in parts.items())
    print(f"  of the last exact way: {told}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of a step or two")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not has_int8():
        print(f"{INT8.name}: left out: the processor has no AVX512-VNNI")
    size = (2 * WINDOW, 1) if args.quick else (8 * EPISODE, 3)
    results: dict[str, Any] = {}
    for backbone in (args.backbone, SMALL):
        results[backbone] = report(backbone, *measure(backbone, *size))
    if args.json:
        speed = {name: product_rate(getattr(torch, name)) / 1e9 for name in ("float32", "bfloat16")}
        document = {"machine": machine(), "gflops_of_a_product": speed, "backbones": results}
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    big, small = results[args.backbone], results[SMALL]
    print(
        f"decisions learned per second: {big['total']:.1f} times the reference's structure with "
        f"{args.backbone}, {small['total']:.1f} times with a 4x256 Llama"
    )


if __name__ == "__main__":
    main()
