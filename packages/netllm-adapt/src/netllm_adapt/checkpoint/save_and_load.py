"""Checkpoints: a folder with configuration, weights, adapter and model card (DESIGN decision 7)."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from netllm_adapt.backbone import check_trusted, embedding_width, is_scratch
from netllm_adapt.backbone.load import DTYPES, load_folder
from netllm_adapt.backbone.quiet_transformers import quiet
from netllm_adapt.checkpoint.card import model_card
from netllm_adapt.checkpoint.config import (
    CARD,
    MERGED,
    VERSION,
    BackboneSpec,
    Config,
    Part,
    read_config,
)
from netllm_adapt.checkpoint.encoder_and_head import build_part, part_name
from netllm_adapt.checkpoint.merged_weights import merged_backbone, merges
from netllm_adapt.files.digests import check_digests, write_digests
from netllm_adapt.files.reading import read_json, tensor_shapes
from netllm_adapt.files.writing import check_replaceable, new_folder, recover
from netllm_adapt.llama.packed_weights import plain_of
from netllm_adapt.lora import load_lora, save_lora
from netllm_adapt.lora.add_adapter import twin_without_adapter

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
        "backbone": msgspec.structs.asdict(model.spec),
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
    check_replaceable(folder, "a checkpoint", ours=_is_checkpoint)


def _is_checkpoint(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and {"backbone", "encoder", "head"} <= read_json(config).keys()


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
    with new_folder(folder.resolve(), then=_THEN) as work:
        parts = ["encoder", "head"]
        if is_scratch(model.spec.name):
            parts.append("backbone")
        elif folded:
            with quiet():
                merged_backbone(model).save_pretrained(work / MERGED)
        else:
            save_lora(model.backbone, work, name=model.adapter)
        for part in parts:
            state = {k: v.contiguous() for k, v in getattr(model, part).state_dict().items()}
            save_file(state, work / f"{part}.safetensors")
        for name, file in model.attached.items():
            shutil.copyfile(file, work / name)
        (work / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (work / CARD).write_text(model_card(config, merged=folded), encoding="utf-8")
        write_digests(work, but=CARD)
    return folder


def load(
    folder: Path,
    classes: Mapping[str, Callable[..., Any]],
    *,
    dtype: str | None = None,
    trainable: bool = False,
    parts: Sequence[type[nn.Module]] = (),
    trust_backbone: bool = False,
    frozen: nn.Module | None = None,
) -> Any:
    """The model of a checkpoint folder, in eval mode.

    Args:
        folder: made by `save`.
        classes: of models, by the kind that a checkpoint tells.
        dtype: the backbone's type; the one it was adapted with if None.
        trainable: whether its adapter is to learn on.
        parts: classes of encoders and heads that no installed package names, such as a notebook's.
        trust_backbone: whether its backbone may be one of a folder or a hub, which is fetched.
        frozen: a backbone with adapter whose frozen weights are the checkpoint's: the two models
            then share them, and none are loaded.

    Raises:
        ValueError: naming the file, if it is no checkpoint, damaged, for another backbone, or its
            backbone is not known and not trusted.
    """
    recover(folder)
    config = read_config(folder)
    check_digests(folder, again=_COPY)
    path = folder / "config.json"
    backbone = _backbone(folder, config.backbone, dtype, trainable, trust_backbone, frozen)
    built = {name: _part(name, config, folder, parts) for name in ("encoder", "head")}
    kind: Any = classes[config.kind]
    fields = {name: getattr(config, name) for name in kind.fields}
    try:
        model = kind(backbone=backbone, **built, spec=config.backbone, **fields)
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    model.attached = {name: folder.resolve() / name for name in config.attached}
    return model.eval()


def _backbone(
    folder: Path,
    spec: BackboneSpec,
    dtype: str | None,
    trainable: bool,
    trust: bool,
    frozen: nn.Module | None,
) -> nn.Module:
    """The backbone with what was trained of it: its low-rank matrices, or all of it."""
    path, own = folder / "config.json", folder / "backbone.safetensors"
    if (folder / MERGED).is_dir():
        if trainable:
            raise ValueError(
                f"{folder} holds a merged backbone, without an adapter that could learn on. Load "
                "the checkpoint that it was made from, or leave `trainable` out."
            )
        merged = load_folder(folder / MERGED, DTYPES[dtype or spec.dtype])
        return merged.requires_grad_(False).eval()
    check_trusted(spec.name, trust=trust, told_by=path)
    if is_scratch(spec.name):
        _check_scratch(spec.name, own, path)
    try:
        shared = frozen is not None and plain_of(frozen) is not frozen
        plain = twin_without_adapter(frozen) if shared else spec.load(dtype=dtype)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: `backbone` {spec} cannot be loaded: {error}") from error
    if is_scratch(spec.name):
        return _filled(plain, own)
    try:
        return load_lora(plain, folder, trainable=trainable)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ValueError(
            f"{folder}: its adapter does not fit the backbone {spec.name!r} ({error}). "
            "Was it made for another backbone, or copied in part?"
        ) from error


def _check_scratch(name: str, weights: Path, path: Path) -> None:
    """Refuse a larger network than its weights, before it takes memory."""
    shapes = tensor_shapes(weights)
    blocks = {key.split(".")[1] for key in shapes if key.startswith("layers.")}
    held = f"{shapes.get('norm.weight', [0])[0]}x{len(blocks)}"
    if name.rpartition("-")[2] != held:
        raise ValueError(
            f"{path}: `backbone` must end in {held}, as the weights in {weights} are, got "
            f"{name!r:.80}. Take all files from one checkpoint."
        )


def _part(name: str, config: Config, folder: Path, parts: Sequence[type[nn.Module]]) -> nn.Module:
    weights = folder / f"{name}.safetensors"
    described: Part = getattr(config, name)
    built = build_part(f"netllm.{name}s", described, folder / "config.json", weights, parts)
    return _filled(built, weights)


def _filled(part: nn.Module, path: Path) -> nn.Module:
    """The module with the weights of a file."""
    try:
        part.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{path}: its weights must be as config.json beside it says, but cannot be loaded. "
            "Take all files of the folder from one checkpoint, config.json as it was saved; for "
            f"another backbone, adapt anew: `netllm adapt --backbone`. "
            f"{textwrap.shorten(str(error), 300)}"
        ) from error
    return part
