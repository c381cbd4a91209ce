"""Where and how large a part measures, and how it takes times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Row = dict[str, Any]
"""A line of a part's table: values by column."""


@dataclass(frozen=True)
class Place:
    """Where and how large."""

    device: str
    rows: int
    width: int
    repeats: int
    backbone: str

    @property
    def backends(self) -> tuple[str, ...]:
        return ("torch", "triton") if self.device == "cuda" else ("torch",)


def median_ms(calls: dict[str, Callable[[], Any]], place: Place) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(place.repeats + 3):
        for name, call in calls.items():
            spent = _once(call, place.device)
            if turn >= 3:  # compiling and warming up
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def _once(call: Callable[[], Any], device: str) -> float:
    if device != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last))


def draw(*shape: int, place: Place, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, device=place.device, dtype=torch.float32).to(dtype)
