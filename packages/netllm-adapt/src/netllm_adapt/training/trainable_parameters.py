"""The parameters that a run trains, their running average, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class Average:
    """The running average of the trainable parameters; smoother than the last ones.

    `decay` 0 keeps nothing. Early on the decay is smaller, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {}
        if decay:
            self.values = {n: p.detach().clone() for n, p in trained(model).items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the parameters after optimiser step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in trained(model).items():
            if name in self.values:
                self.values[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged parameters, for the block."""
        own = {n: p.detach().clone() for n, p in trained(model).items() if n in self.values}
        model.load_state_dict(self.values, strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)


def model_facts(model: nn.Module) -> dict[str, Any]:
    """What tells a model from others of its backbone, beside its weights."""
    shapes = {name: list(parameter.shape) for name, parameter in trained(model).items()}
    facts = {name: getattr(model, name) for name in ("window", "segment") if hasattr(model, name)}
    facts["trained"] = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]
    backbone: Any = model.backbone
    for name, config in getattr(backbone, "peft_config", {}).items():
        for field in ("r", "lora_alpha", "use_rslora"):
            if hasattr(config, field):  # other kinds of adapters have other fields
                facts[f"{name}.{field}"] = getattr(config, field)
    return facts
