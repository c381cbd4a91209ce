"""Whether products in int8 are faster on this processor than those that they replace."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from netllm_adapt.backbone.cache import cache_folder
from netllm_adapt.files.writing import new_file
from netllm_adapt.lora.frozen_weights import int8_products, linears, transposed_linear
from netllm_adapt.processor import processor

logger = logging.getLogger(__name__)

_ROWS = 1536
"""Of four training segments."""
_LAYERS = ((576, (576, 192, 192)), (576, (576,)), (576, (1536, 1536)), (1536, (576,)))
"""A block of SmolLM2-135M: how wide an input is, and the outputs of the layers that share it."""
_ROUNDS = 5


def warn_if_slower(dtype: torch.dtype) -> None:
    """Say so where products in int8 take longer here than exact ones of this type."""
    if (gain := int8_speedup(dtype)) < 1:
        logger.warning(
            "On this processor (%s) products in int8 take %.1f times as long as those in %s that "
            "they replace, and round what is learned from. Leave `products` out.",
            processor(),
            1 / gain,
            str(dtype).removeprefix("torch."),
        )


def int8_speedup(dtype: torch.dtype) -> float:
    """How many times as fast frozen products are in int8, rounding included, in training passes.

    It is measured once for each processor and torch, in a second, and kept in `cache_folder()`.
    """
    file = cache_folder() / "int8-speed.json"
    what = f"{processor()}, torch {torch.__version__}, {dtype}"
    known = _read(file) if file.is_file() else {}
    if what not in known:
        known[what] = _measured(dtype)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with new_file(file) as work:
                work.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            logger.info("%s; it is measured again next time.", error)
    return known[what]


def _read(file: Path) -> dict[str, float]:
    try:
        return {str(key): float(value) for key, value in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # measured anew


def _measured(dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)

    def some(rows: int, width: int) -> torch.Tensor:
        return torch.randn(rows, width, generator=generator).to(dtype)

    layers = [
        (some(_ROWS, width), [nn.Parameter(some(out, width), requires_grad=False) for out in outs])
        for width, outs in _LAYERS
    ]
    gradients = {out: some(_ROWS, out) for _, outs in _LAYERS for out in outs}

    @torch.no_grad()
    def block() -> None:
        for x, weights in layers:
            linears(x, weights, [None] * len(weights), adapted=())
            for weight in weights:
                transposed_linear(gradients[len(weight)], weight, adapted=False)

    exact, int8 = [], []
    in_int8 = int8_products()(block)
    for _ in range(_ROUNDS):  # in turn: other work may share the machine
        exact.append(_seconds(block))
        int8.append(_seconds(in_int8))
    return min(exact[1:]) / min(int8[1:])  # the first one packs the weights


def _seconds(run: Callable[[], None]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began
