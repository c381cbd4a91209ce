"""Which processor a model learns and decides on: `auto`, `cpu`, `cuda` or `mps`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What may be asked for; `cuda:1` and the like too."""


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device that was asked for; `auto` is the first of cuda, mps and cpu that torch sees.

    A `torch.device` of another kind is taken as it is.

    Raises:
        ValueError: for another name, or a device that torch does not see here.
    """
    import torch

    name = str(device)
    if name == "auto":
        return torch.device("cuda" if not _absent("cuda") else "cpu" if _absent("mps") else "mps")
    if isinstance(device, str) and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ValueError(
            f"`device` must be {', '.join(DEVICES)} or one of several, such as cuda:1, "
            f"got {name!r}."
        )
    resolved = torch.device(device)
    if reason := _absent(resolved.type, resolved.index or 0):
        raise ValueError(
            f"{name} was asked for, but {reason}. Ask for cpu, or for auto, which takes what is "
            "there."
        )
    return resolved


def learning_device(device: str | torch.device, accelerator: Accelerator) -> torch.device:
    """Where this process learns: of several that share a run, where its launcher put it.

    Raises:
        ValueError: if that is not what was asked for, or what was asked for is not here.
    """
    if accelerator.num_processes == 1:
        return resolve_device(device)
    own: torch.device = accelerator.device
    if str(device) not in ("auto", own.type, str(own)):
        raise ValueError(
            f"`device` must be auto or {own.type}, where this run's {accelerator.num_processes} "
            f"processes were launched, got {device}. Launch them elsewhere: `accelerate launch` "
            "takes --cpu."
        )
    return own


def switched(name: str, *, default: bool) -> bool:
    """Whether an environment variable switches something on, by 1, or off, by 0.

    Raises:
        ValueError: if it has another value.
    """
    given = os.environ.get(name, str(int(default)))
    if given not in ("0", "1"):
        raise ValueError(f"The environment variable {name} must be 0 or 1, got {given!r}.")
    return given == "1"


def to_device(value: Any, device: str | torch.device) -> Any:
    """A tensor, or tuple of tensors, on another device; a GPU copies it while Python goes on."""
    import torch

    if isinstance(value, tuple):
        return type(value)(*(to_device(part, device) for part in value))
    if torch.device(device).type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def _absent(kind: str, index: int = 0) -> str | None:
    """Why torch cannot compute there; None if it can."""
    import torch

    if kind == "cuda":
        if torch.version.cuda is None and torch.version.hip is None:
            return f"this torch ({torch.__version__}) was built without it"
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if index >= count:
            return f"torch sees {count or 'none'}" + (f", cuda:0 to cuda:{count - 1}" * bool(count))
    if kind == "mps" and not torch.backends.mps.is_available():
        return "torch sees none, which only Macs with Apple's own chips have"
    return None
