"""Checkpoints: a folder with configuration, weights, adapter and model card (DESIGN decision 7)."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from netllm_adapt.backbone import check_trusted, is_scratch
from netllm_adapt.backbone.spec import BackboneSpec, embedding_width
from netllm_adapt.checkpoint.card import model_card
from netllm_adapt.checkpoint.config import MERGED, VERSION, Config, Part, read_config
from netllm_adapt.checkpoint.encoder_and_head import build_part, part_name, warn_of_own_classes
from netllm_adapt.checkpoint.merged_weights import load_merged, merges, save_merged
from netllm_adapt.files.digests import check_digests, write_digests
from netllm_adapt.files.reading import read_json, tensor_shapes
from netllm_adapt.files.writing import new_folder, recover
from netllm_adapt.lora import load_lora, save_lora

_THEN = "save again; a run of `netllm adapt` goes on with --resume"
_COPY = "Copy the folder again. If you changed it yourself, delete digests.json."


def describe(model: Any) -> dict[str, Any]:
    """What `config.json` says of an adapted model.

    Raises:
        ValueError: if encoder or head have the name of another installed part.
    """
    config: dict[str, Any] = {
        "version": VERSION,
        "kind": model.kind,
        "backbone": asdict(model.spec),
        "width": embedding_width(model.backbone),
        **{name: msgspec.to_builtins(getattr(model, name)) for name in model.fields},
    }
    for part, module in (("encoder", model.encoder), ("head", model.head)):
        name = part_name(module, f"netllm.{part}s")
        config[part] = {"name": name, "config": module.config()}
    if model.attached:
        config["attached"] = sorted(model.attached)
    return config


def check_place(folder: Path) -> None:
    """Raise unless a checkpoint may replace what is there.

    Raises:
        FileExistsError: if something else would be lost.
    """
    if not folder.exists():
        return
    config = folder / "config.json"
    ours = config.is_file() and {"backbone", "encoder", "head"} <= set(read_json(config))
    if not folder.is_dir() or (any(folder.iterdir()) and not ours):
        raise FileExistsError(
            f"{folder} must be new, empty or a checkpoint, got something else, which would be "
            "lost. Choose another folder."
        )


def save(model: Any, folder: Path, *, merged: bool = False) -> Path:
    """Write `model` to `folder`, which appears complete or not at all.

    The backbone's own weights are not in it, unless they were trained from scratch: `config.json`
    says how to load them. `merged` puts them into its folder `backbone`, with what the adapter adds
    to them folded in, where `transformers.AutoModel` reads them too. A model that was read merged
    has no adapter any more, and is saved so again.

    Raises:
        ValueError: if encoder or head have the name of another installed part, or it cannot be
            merged.
        FileExistsError: if the folder holds something else than a checkpoint.
        OSError: if the folder cannot be written.
    """
    config = describe(model)
    check_place(folder)
    folded = merges(model, merged)
    warn_of_own_classes(model.encoder, model.head)
    with new_folder(folder.resolve(), then=_THEN) as work:
        parts = ["encoder", "head"]
        if is_scratch(model.spec.name):
            parts.append("backbone")
        elif folded:
            save_merged(model, work)
        else:
            backbone: Any = model.backbone
            save_lora(backbone, work, name=model.adapter)
        for part in parts:
            state = {k: v.contiguous() for k, v in getattr(model, part).state_dict().items()}
            save_file(state, work / f"{part}.safetensors")
        for name, file in model.attached.items():
            shutil.copyfile(file, work / name)
        (work / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (work / "README.md").write_text(model_card(config, merged=folded), encoding="utf-8")
        write_digests(work, but=("README.md",))
    return folder


def _fill(part: nn.Module, path: Path) -> None:
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path}: cannot be loaded ({error}). Copy the checkpoint again."
        ) from error
    try:
        part.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: its weights must be as config.json beside it says, got others. Take all "
            "files of the folder from one checkpoint, config.json as it was saved; for another "
            "backbone, adapt anew: `netllm adapt --backbone`. torch says: "
            f"{textwrap.shorten(str(error), 300)}"
        ) from error


def load(
    folder: Path,
    classes: Mapping[str, Callable[..., Any]],
    *,
    dtype: str | None = None,
    trainable: bool = False,
    parts: Sequence[type[nn.Module]] = (),
    trust_backbone: bool = False,
) -> Any:
    """The model of a checkpoint folder, in eval mode.

    Args:
        folder: made by `save`.
        classes: of models, by the kind that a checkpoint tells.
        dtype: the backbone's type; the one it was adapted with if None.
        trainable: whether its adapter is to learn on.
        parts: classes of encoders and heads that no installed package names, such as a notebook's.
        trust_backbone: whether its backbone may be one of a folder or a hub, which is fetched.

    Raises:
        ValueError: naming the file, if it is no checkpoint, damaged, for another backbone, or its
            backbone is not known and not trusted.
    """
    recover(folder)
    config = read_config(folder)
    check_digests(folder, again=_COPY)
    path = folder / "config.json"
    merged = (folder / MERGED).is_dir()
    check_trusted(config.backbone.name, trust=trust_backbone or merged, told_by=path)
    if merged and trainable:
        raise ValueError(
            f"{folder} holds a merged backbone, without an adapter that could learn on. Load the "
            "checkpoint that it was made from, or leave `trainable` out."
        )
    spec = BackboneSpec(**msgspec.structs.asdict(config.backbone))
    if is_scratch(spec.name):
        _check_scratch(spec.name, folder / "backbone.safetensors", path)
    try:
        plain = load_merged(folder, dtype or spec.dtype) if merged else spec.load(dtype=dtype)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: `backbone` {spec} cannot be loaded: {error}") from error
    built = {name: _build(name, config, folder, parts) for name in ("encoder", "head")}
    backbone = plain if merged else _adapter(plain, folder, spec, trainable)
    kind: Any = classes[config.kind]
    fields = {name: getattr(config, name) for name in kind.fields}
    try:
        model = kind(backbone=backbone, **built, spec=spec, **fields)
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    model.attached = {name: folder.resolve() / name for name in config.attached}
    return model.eval()


def _build(name: str, config: Config, folder: Path, parts: Sequence[type[nn.Module]]) -> nn.Module:
    weights = folder / f"{name}.safetensors"
    described: Part = getattr(config, name)
    built = build_part(f"netllm.{name}s", described, folder / "config.json", weights, parts)
    _fill(built, weights)
    return built


def _check_scratch(name: str, weights: Path, path: Path) -> None:
    """Refuse a larger network than its weights, before it takes memory."""
    shapes = tensor_shapes(weights)
    blocks = {key.split(".")[1] for key in shapes if key.startswith("layers.")}
    held = f"scratch-{shapes.get('norm.weight', [0])[0]}x{len(blocks)}"
    if name != held:
        raise ValueError(
            f"{path}: `backbone` must be {held!r}, as the weights in {weights} are, got "
            f"{name!r:.80}. Take all files from one checkpoint."
        )


def _adapter(plain: Any, folder: Path, spec: BackboneSpec, trainable: bool) -> nn.Module:
    """The backbone with what was trained of it: its low-rank matrices, or all of it."""
    if is_scratch(spec.name):
        _fill(plain, folder / "backbone.safetensors")
        return plain  # type: ignore[no-any-return]
    try:
        return load_lora(plain, folder, trainable=trainable)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ValueError(
            f"{folder}: its adapter does not fit the backbone {spec.name!r} ({error}). "
            "Was it made for another backbone, or copied in part?"
        ) from error
