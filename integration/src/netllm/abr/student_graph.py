"""A student as a torch module, from the fields of an observation to the levels' probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from netllm_baselines.abr.ppo_features import (
    HISTORY,
    LOOKAHEAD,
    SHORTEST_S,
    SLOWEST_MBPS,
    SMALLEST_MB,
)
from netllm_baselines.perceptron import CUT, Perceptron
from torch import Tensor, nn


class StudentGraph(nn.Module):
    """The same answers as `Student.probabilities`; every field is float32, whole numbers too.

    Args:
        actor: its weights, and the mean and spread of its features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, actor: Perceptron) -> None:
        super().__init__()
        self.levels = actor.outputs
        self.register_buffer("mean", torch.from_numpy(actor.mean.astype(np.float32)))
        self.register_buffer("std", torch.from_numpy(actor.std.astype(np.float32)))
        layers: list[nn.Module] = []
        for matrix in actor.matrices:
            layers += [nn.Linear(*matrix.shape), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        actor.copy_into(self.layers)

    def forward(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "row level"]:
        """The probability of each level."""
        seen = features(inputs, self.levels)
        standard = ((seen - self.mean) / self.std).clamp(-CUT, CUT)
        probabilities: Tensor = self.layers(standard).softmax(1)
        return probabilities


def features(inputs: Mapping[str, Tensor], levels: int) -> Float[Tensor, "row feature"]:
    """What `netllm_baselines.abr.ppo_features.features` computes, in torch."""
    throughput, sizes = inputs["throughput_mbps"], inputs["sizes_mb"]
    known = (throughput > 0).float()
    count = known.sum(1, keepdim=True).clamp(min=1)
    logs = throughput.clamp(min=SLOWEST_MBPS).log() * known
    mean = logs.sum(1, keepdim=True) / count
    logs = torch.where(known > 0, logs, mean)
    delay = inputs["delay_s"].clamp(min=SHORTEST_S).log() * known
    sizes = torch.where(sizes > 0, sizes, sizes[:, :1])
    buffer, left, stall = (inputs[k][:, None] for k in ("buffer_s", "chunks_left", "stall_s"))
    speeds = (
        logs[:, -1:].exp(),
        1 / (-logs).exp().mean(1, keepdim=True),
        logs.amin(1, keepdim=True).exp(),
    )
    slacks = [((buffer - 8 * sizes[:, 0] / speed) / 10).clamp(-3, 6) for speed in speeds]
    ladder = torch.arange(levels, dtype=torch.float32, device=buffer.device)
    return torch.cat(
        [
            logs,
            delay,
            sizes.clamp(min=SMALLEST_MB).log().flatten(1),
            *slacks,
            (inputs["level"][:, None] == ladder).float(),
            mean,
            ((logs - logs.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True).sqrt(),
            count / HISTORY,
            buffer / 10,
            torch.log1p(buffer),
            torch.log1p(stall),
            left / 48,
            left.clamp(max=8) / 8,
        ],
        dim=1,
    )


def example(levels: int) -> dict[str, Tensor]:
    """The fields that a student reads, of two rows."""
    shapes = {
        "throughput_mbps": (HISTORY,),
        "delay_s": (HISTORY,),
        "sizes_mb": (LOOKAHEAD, levels),
        **dict.fromkeys(("level", "buffer_s", "stall_s", "chunks_left"), ()),
    }
    return {name: torch.ones(2, *shape) for name, shape in shapes.items()}
