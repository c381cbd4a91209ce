"""What a folder of somebody else's model may hold, and who may name one."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from netllm_adapt.backbone.catalogue import find, nearest
from netllm_adapt.backbone.quiet_transformers import quiet
from netllm_adapt.backbone.scratch import is_scratch
from netllm_adapt.files.reading import read_json, tensor_shapes

RANDOM = "random-"
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What is fetched of a model on the hub: no pickle, no code."""
_PROGRAMS = {"auto_map", "custom_pipelines", "trust_remote_code", "use_kernels", "backbone"}
_PACKED = 8
"""Weights of 4 bits in tensors of 32 bits."""


def check_trusted(name: str, *, trust: bool, told_by: Path) -> None:
    """Raise unless a checkpoint may name this backbone: a known one, or one that the user trusts.

    Raises:
        ValueError: naming the file, if it is neither.
    """
    if trust or is_scratch(name) or find(name.removeprefix(RANDOM)) is not None:
        return
    raise ValueError(
        f"{told_by}: its backbone {name!r} is none that is known here. {nearest(name)} A model of "
        "a folder or a hub is loaded, or fetched, on your word only: if you trust its source, add "
        "--trust-backbone, in Python trust_backbone=True."
    )


def check_model_folder(folder: Path, *, weights: bool = True) -> None:
    """Raise if a folder asks transformers for code, for another model, or for no end of memory.

    Args:
        folder: as transformers writes it.
        weights: whether its weights are wanted, and not its configuration alone.

    Raises:
        ValueError: naming the file.
    """
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder / 'adapter_config.json'}: a backbone's folder must hold a whole model, and "
            "no adapter, which would lead to another one. Merge it into its model first."
        )
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            _check_names(read_json(folder / name), folder / name)
    if weights:
        _check_size(folder)


def _check_names(config: Any, path: Path) -> None:
    for key, value in _pairs(config):
        if value and (key in _PROGRAMS or key.endswith("_implementation")):
            raise ValueError(
                f"{path}: must not have `{key}`, which can name code or another model to fetch. "
                "Take it out, or take a model that transformers knows itself."
            )


def _pairs(config: Any) -> Iterator[tuple[str, Any]]:
    """All names and values of a configuration, of those within it too."""
    if isinstance(config, dict):
        yield from config.items()
    inner = config.values() if isinstance(config, dict) else config
    for value in inner if isinstance(config, dict | list) else ():
        yield from _pairs(value)


def _check_size(folder: Path) -> None:
    """Refuse a configuration of a larger model than the weights beside it."""
    files = _weight_files(folder)
    shapes = [shape for file in files for shape in tensor_shapes(file).values()]
    held = sum(prod(shape) for shape in shapes)
    path = folder / "config.json"
    config = read_json(path)
    for key, value in _pairs(config):
        if ("layer" in key or "expert" in key) and type(value) is int and value > len(shapes):
            raise ValueError(
                f"{path}: `{key}` must fit the {len(shapes)} tensors beside it, got {value}. Take "
                "all files from one model."
            )
    wanted = _parameters(path)
    if wanted > held * (_PACKED if config.get("quantization_config") else 1):
        raise ValueError(
            f"{path}: a model so described has {wanted:,} parameters, the weights beside it are "
            f"{held:,}. Take all files from one model."
        )


def _parameters(path: Path) -> int:
    """How many parameters a model has that no memory is spent on."""
    import torch
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
        with quiet(), torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever the model's own constructor makes of odd numbers
        raise ValueError(
            f"{path}: transformers cannot make a model of it: {error!s:.200}. Take all files from "
            "one model."
        ) from error
    return sum(parameter.numel() for parameter in model.parameters())


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    listed = read_json(index).get("weight_map")
    names = set(listed.values()) if isinstance(listed, dict) else set()
    if not names or any(type(name) is not str or Path(name).name != name for name in names):
        raise ValueError(
            f"{index}: `weight_map` must name files of its folder, got {listed!r:.60}."
        )
    return [folder / name for name in sorted(names)]
