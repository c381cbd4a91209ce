"""A network under training, and its running average."""

import copy
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_baselines.vp._torch_layers import wrap
from netllm_baselines.vp._training_windows import Windows
from netllm_baselines.vp.training_recipe import Recipe

Make = Callable[[torch.Generator], nn.Module]
"""Draws a network whose call is `network(history_deg, seen, generator) -> offset_deg`."""


class Learner:
    """Minimises the mean wrapped error in degrees, by AdamW under a one-cycle rate.

    Args:
        make: Draws the network.
        train: The windows to learn from.
        recipe: The numbers.
        seed: Of weights, order, mirror images and dropout.
    """

    def __init__(self, make: Make, train: Windows, *, recipe: Recipe, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._train, self._recipe = train, recipe
        self._network = make(self._generator)
        self._average = copy.deepcopy(self._network).requires_grad_(False)
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
        )
        steps = recipe.epochs * -(-len(train) // recipe.batch)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, recipe.rate, total_steps=steps + 1
        )
        self._done = 0

    def epoch(self) -> float:
        """Pass over all windows once; returns the mean error in degrees on the way."""
        total = 0.0
        order = torch.randperm(len(self._train), generator=self._generator)
        for rows in order.split(self._recipe.batch):
            total += self._step(rows) * len(rows)
        return total / len(self._train)

    def _step(self, rows: Tensor) -> float:
        mirrored = None
        if self._recipe.mirror:
            mirrored = torch.rand(len(rows), generator=self._generator) < 0.5
        windows = self._train.at(rows, mirrored=mirrored)
        error = error_deg(self._network, *windows, generator=self._generator).mean()
        self._optimiser.zero_grad()
        error.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._recipe.max_norm)
        self._optimiser.step()
        self._schedule.step()
        self._done += 1
        keep = min(self._recipe.average, self._done / (self._done + 9))
        with torch.no_grad():
            pairs = zip(self._average.parameters(), self._network.parameters(), strict=True)
            for mean, new in pairs:
                mean.lerp_(new, 1 - keep)
        return float(error.detach())

    def halved(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """The running average rounded to half precision: as a network, and its parameters."""
        halves = {name: value.half() for name, value in self._average.state_dict().items()}
        rounded = copy.deepcopy(self._average)
        rounded.load_state_dict({name: value.float() for name, value in halves.items()})
        return rounded, halves


def validate(network: nn.Module, valid: Windows) -> float:
    """Mean wrapped error in degrees over all windows, steps and axes."""
    with torch.inference_mode():
        errors = [
            error_deg(network, *valid.at(rows)) for rows in torch.arange(len(valid)).split(512)
        ]
    return float(torch.cat(errors).double().mean())


def error_deg(
    network: nn.Module,
    history_deg: Float[Tensor, "batch history 3"],
    future_deg: Float[Tensor, "batch horizon 3"],
    seen: Tensor | Mapping[str, Tensor] | None,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " batch"]:
    """Wrapped error in degrees of each window, the mean over steps and axes."""
    truth = future_deg - history_deg[:, -1:]
    error = wrap(network(history_deg, seen, generator) - truth).abs()
    return error.mean(dim=(1, 2))
