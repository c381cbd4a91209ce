"""Checkpoints: a folder with configuration, weights, adapter and model card (DESIGN decision 7)."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from netllm_adapt.adapted import Adapted, BackboneSpec, embedding_width
from netllm_adapt.backbone import is_scratch
from netllm_adapt.card import model_card
from netllm_adapt.files import new_folder, recover
from netllm_adapt.lora import load_lora, save_lora
from netllm_adapt.merged import FOLDER, load_merged, merges, save_merged
from netllm_adapt.model import AdaptedModel
from netllm_adapt.parts import build_part, note_own, part_name
from netllm_adapt.predictor import Predictor
from netllm_adapt.reading import read_json

VERSION = 1
_THEN = "save again; a run of `netllm adapt` goes on with --resume"
_KINDS: dict[str, type[Adapted]] = {"decisions": AdaptedModel, "predictions": Predictor}


def describe(model: Adapted) -> dict[str, Any]:
    """What `config.json` says of a model.

    Raises:
        ValueError: if encoder or head have the name of another installed part.
    """
    config: dict[str, Any] = {
        "version": VERSION,
        "kind": next(kind for kind, known in _KINDS.items() if isinstance(model, known)),
        "backbone": asdict(model.spec),
        "width": embedding_width(model.backbone),
        **{name: getattr(model, name) for name in model.fields},
    }
    for part in ("encoder", "head"):
        module = getattr(model, part)
        group = f"netllm.{part}s"
        config[part] = {"name": part_name(module, group), "config": module.config()}
    return config


def check_place(folder: Path) -> None:
    """Nothing, if a checkpoint may take the place of what is there.

    Raises:
        FileExistsError: if something else would be lost.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (
        any(folder.iterdir())
        and not {"backbone", "encoder", "head"} <= _keys(folder / "config.json")
    ):
        raise FileExistsError(
            f"{folder} must be new, empty or a checkpoint, got something else, which would be "
            "lost. Choose another folder."
        )


def _keys(file: Path) -> set[str]:
    return set(read_json(file)) if file.is_file() else set()


def save(model: Adapted, folder: Path, *, merged: bool = False) -> Path:
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
    note_own(model.encoder, model.head)
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
        (work / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (work / "README.md").write_text(model_card(config, merged=folded), encoding="utf-8")
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's `config.json`.

    Raises:
        ValueError: if `folder` is no checkpoint, or one from a newer version.
    """
    recover(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} is no checkpoint: it has no config.json. Make one: `netllm adapt`."
        )
    config = read_json(path)
    if config.get("version", 0) > VERSION:
        raise ValueError(
            f"{path}: written by a newer netllm-adapt (format {config['version']}, this one reads "
            f"up to {VERSION}). Upgrade with `pip install -U netllm-adapt`."
        )
    config.setdefault("kind", "decisions")
    if config["kind"] not in _KINDS:
        raise ValueError(f"{path}: `kind` must be one of {[*_KINDS]}, got {config['kind']!r}.")
    missing = {"backbone", "encoder", "head", *_KINDS[config["kind"]].fields} - set(config)
    if missing:
        raise ValueError(f"{path}: lacks {sorted(missing)}. Was it written by `netllm adapt`?")
    return config


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
    *,
    dtype: str | None = None,
    trainable: bool = False,
    parts: Sequence[type[nn.Module]] = (),
) -> Adapted:
    """The model of a checkpoint folder, in eval mode.

    Args:
        folder: made by `save`.
        dtype: the backbone's type; the one it was adapted with if None.
        trainable: whether its adapter is to learn on.
        parts: classes of encoders and heads that no installed package names, such as a notebook's.

    Raises:
        ValueError: naming the file, if it is no checkpoint, cut off, or for another backbone.
    """
    config = read_config(folder)
    path = folder / "config.json"
    try:
        spec = BackboneSpec(**config["backbone"])
        merged = (folder / FOLDER).is_dir()
        plain = load_merged(folder, dtype or spec.dtype) if merged else spec.load(dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: `backbone` must be what `load_backbone` takes, got {config['backbone']!r}: "
            f"{error}"
        ) from error
    built: dict[str, Any] = {
        p: build_part(f"netllm.{p}s", config[p], path, parts) for p in ("encoder", "head")
    }
    for name, part in built.items():
        _fill(part, folder / f"{name}.safetensors")
    kind = _KINDS[config["kind"]]
    if merged and trainable:
        raise ValueError(
            f"{folder} holds a merged backbone, without an adapter that could learn on. Load the "
            "checkpoint that it was made from, or leave `trainable` out."
        )
    backbone = plain if merged else _adapter(plain, folder, spec, trainable)
    fields = {name: config[name] for name in kind.fields}
    try:
        model = kind(backbone=backbone, **built, spec=spec, **fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return model.eval()


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
