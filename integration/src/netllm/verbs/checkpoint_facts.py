"""What a checkpoint may say of its making and state, as far as anything depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from netllm_adapt.checkpoint.config import DataIdentity

T = TypeVar("T")
Size = Annotated[int, Meta(ge=1, le=4_096)]


class Frames(msgspec.Struct, forbid_unknown_fields=True):
    """The frozen vision model of a multimodal checkpoint."""

    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.]{1,200}$")]
    """timm's name of it: what is installed, and never a place."""
    weights: str | None = None
    """None for timm's own, `random`, or a safetensors file that the checkpoint holds."""
    seed: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    image_size: tuple[Size, Size] = (64, 128)
    grid: tuple[Size, Size] = (4, 8)


class Facts(msgspec.Struct):
    """What a checkpoint says of its making, as far as a test depends on it."""

    task: str | None = None
    setting: str | None = None
    teachers: list[str] = []
    overrides: dict[str, Any] = {}
    identity: DataIdentity | None = None


class State(msgspec.Struct):
    """What models of our tasks need to decide."""

    front_deg: float | None = None
    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    most_jobs: Annotated[int, Meta(ge=1)] | None = None
    frames: Frames | None = None


def read_facts(folder: Path) -> Facts:
    """The facts of a checkpoint.

    Raises:
        ValueError: naming file and field, if it is none, or a fact is not what it must be.
    """
    from netllm_adapt.checkpoint.config import read_config

    config = read_config(folder)
    path = folder / "config.json"
    facts = _converted(config.about, Facts, "about", path)
    state = _converted(config.state, State, "state", path)
    if state.frames is not None:
        check_weights(state.frames, config.attached, path)
    return msgspec.structs.replace(facts, identity=config.identity)


def _converted(values: Mapping[str, Any], kind: type[T], name: str, path: Path) -> T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        told = str(error).replace("`$", f"`{name}")
        raise ValueError(f"{path}: {told}. Take config.json as it was saved.") from error


def check_weights(frames: Frames, held: Any, path: Path) -> None:
    """Refuse weights of the vision model that the checkpoint does not hold itself.

    Raises:
        ValueError: naming the file.
    """
    if frames.weights not in (None, "random", *held):
        raise ValueError(
            f"{path}: `state.frames.weights` must be null, 'random' or a safetensors file that the "
            f"checkpoint holds, got {frames.weights!r:.200}: a checkpoint reads nothing outside "
            "its folder. Adapt anew with --image-weights FILE.safetensors, which is saved with it."
        )
