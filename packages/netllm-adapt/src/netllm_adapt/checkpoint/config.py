"""The schema of a checkpoint's `config.json`: what it may say, and nothing else decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from netllm_adapt.files.reading import check_version, decode_json, read_bounded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VERSION = 2
MOST_BYTES = 4_194_304
OWN_FILES = {f"{name}.safetensors" for name in ("encoder", "head", "backbone", "adapter_model")}
CARD = "README.md"
MERGED = "backbone"
"""The folder of a merged backbone in a checkpoint's."""

Count = Annotated[int, Meta(ge=1, le=1 << 24)]
Seed = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.safetensors$")]


class BackboneSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which backbone a checkpoint was adapted from: the arguments of `load_backbone`."""

    name: Annotated[str, Meta(min_length=1, max_length=4_096)]
    layers: Count | None = None
    dtype: Annotated[str, Meta(pattern=r"^(bfloat16|float(16|32|64))$")] = "bfloat16"
    seed: Seed = 0
    quantise: Annotated[str, Meta(pattern=r"^(nf4|int8)$")] | None = None

    def load(self, *, dtype: str | None = None) -> PreTrainedModel:
        """The backbone, in another type if one is given; see `load_backbone` for what it raises."""
        from netllm_adapt.backbone import load_backbone

        options = msgspec.structs.asdict(self) | ({} if dtype is None else {"dtype": dtype})
        return load_backbone(**options)

    def empty(self) -> PreTrainedModel:
        """The backbone without memory for its weights; see `empty_backbone`."""
        from netllm_adapt.backbone import empty_backbone

        return empty_backbone(**msgspec.structs.asdict(self))


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part's `name`, of an installed package, and its `config`."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    config: dict[str, Any]


class DataIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digests of the data that a model knows, so that a test can tell what it was shown."""

    sources: list[dict[str, Any]] = []
    """The files that the data came from, and the backbone's."""
    learned: list[str] = []
    """Of the episodes that it learned from."""
    validated: list[str] = []
    """Of the episodes that it was chosen by."""


class Config(msgspec.Struct, kw_only=True):
    """A checkpoint's configuration, as `save_pretrained` writes it."""

    backbone: BackboneSpec
    encoder: Part
    head: Part
    state: dict[str, Any] = {}
    """What the model needs to decide."""
    about: dict[str, Any] = {}
    """What a reader wants to know: setting, data, teachers, command, figures."""
    identity: DataIdentity = DataIdentity()
    version: Annotated[int, Meta(ge=0)] = VERSION
    kind: Literal["decisions", "predictions"] = "decisions"
    width: Count | None = None
    window: Count | None = None
    segment: Count | None = None
    target_return: float | None = None
    """Of a model that decides; None if it is told of no returns."""
    attached: Annotated[list[FileName], Meta(max_length=16)] = []


def read_config(folder: Path) -> Config:
    """The checkpoint's `config.json`.

    Raises:
        ValueError: naming file and field, if `folder` is no checkpoint, or a newer version's.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(
            f"{folder} is no checkpoint: it has no config.json. Make one: `netllm adapt`."
        )
    content = read_bounded(path, MOST_BYTES)
    if check_version(content, VERSION, name=str(path)) < 2:
        content = _of_format_1(content, path)
    config: Config = decode_json(content, Config, name=str(path))
    if config.kind == "decisions":
        for name in ("window", "segment"):
            if getattr(config, name) is None:
                raise ValueError(f"{path}: lacks `{name}`. Was it written by `netllm adapt`?")
    if taken := OWN_FILES.intersection(config.attached):
        raise ValueError(f"{path}: `attached` must not name {min(taken)!r}, which is a part's own.")
    return config


def _of_format_1(content: bytes, path: Path) -> bytes:
    """The same in format 2: `task` held state, facts and identity in one, under names in words."""
    config = decode_json(content, dict[str, Any], name=str(path))
    about = config.pop("task", None)
    if not isinstance(about, dict):
        raise ValueError(f"{path}: must hold an object as its `task`, got {about!r:.80}.")
    identity = about.pop("identity", {})
    state = {name.replace(" ", "_"): value for name, value in about.items()}
    return msgspec.json.encode(config | {"state": state, "about": about, "identity": identity})
