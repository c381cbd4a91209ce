"""What a predictor of viewports needs to decide."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

HELD = "frames.safetensors"
"""The file of a checkpoint with the weights of its vision model, if they are one's own."""
_Size = Annotated[int, Meta(ge=1, le=4_096)]


class Frames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The frozen vision model of a multimodal predictor."""

    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.]{1,200}$")]
    """timm's name of it: what is installed, and never a place."""
    weights: str | None = None
    """None for timm's own, `random`, or `HELD`."""
    seed: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    image_size: tuple[_Size, _Size] = (64, 128)
    grid: tuple[_Size, _Size] = (4, 8)

    def __post_init__(self) -> None:
        """Refuse weights from outside the checkpoint.

        Raises:
            ValueError: if it names any.
        """
        if self.weights not in (None, "random", HELD):
            raise ValueError(
                f"`weights` must be null, 'random' or {HELD!r}, got {self.weights!r:.200}: a "
                "checkpoint reads nothing outside its folder. Adapt anew with --image-weights "
                "FILE.safetensors, which is saved with it"
            )


@dataclass(frozen=True)
class State:
    """Beside its weights; None is what a checkpoint does not tell."""

    front_deg: float | None = None
    """Yaw of the front of the videos that it learned from."""
    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    """Points per second that it learned."""
    frames: Frames | None = None
    """Its vision model; None if it sees no images."""
