"""What a predictor of viewports needs to decide."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class State:
    """Beside its weights; None is what a checkpoint does not tell."""

    front_deg: float | None = None
    """Yaw of the front of the videos that it learned from."""
    rate_hz: float | None = None
    """Points per second that it learned."""
    frames: dict[str, Any] | None = None
    """Settings of its vision model, see `netllm.vp.windows`."""
