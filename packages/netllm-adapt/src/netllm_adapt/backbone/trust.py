"""What a folder of somebody else's model may hold, and who may name one."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm_adapt.backbone.catalogue import find, nearest
from netllm_adapt.backbone.quiet_transformers import quiet
from netllm_adapt.backbone.scratch import is_scratch
from netllm_adapt.files.reading import read_json, tensor_shapes

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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


def check_names(folder: Path) -> None:
    """Raise if a folder, as transformers writes it, asks for code or for another model.

    Raises:
        ValueError: naming the file.
    """
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder / 'adapter_config.json'}: a backbone's folder must hold a whole model, and "
            "no adapter, which would lead to another one. Merge it into its model first."
        )
    for path in (folder / "config.json", folder / "tokenizer_config.json"):
        for key, value in _pairs(read_json(path)) if path.is_file() else ():
            if value and (key in _PROGRAMS or key.endswith("_implementation")):
                raise ValueError(
                    f"{path}: must not have `{key}`, which can name code or another model to "
                    "fetch. Take it out, or take a model that transformers knows itself."
                )


def _pairs(config: Any) -> Iterator[tuple[str, Any]]:
    """All names and values of a configuration, of those within it too."""
    if isinstance(config, dict):
        yield from config.items()
    inner = config.values() if isinstance(config, dict) else config
    for value in inner if isinstance(config, dict | list) else ():
        yield from _pairs(value)


def trusted_config(folder: Path, *, weights: bool) -> "PretrainedConfig":
    """The configuration of a model's folder, which asks for no code and no other model.

    Args:
        folder: as transformers writes it.
        weights: whether it must describe no larger model than the weights beside it.

    Raises:
        ValueError: naming the file.
    """
    from transformers import AutoConfig

    check_names(folder)
    path = folder / "config.json"
    files = _weight_files(folder) if weights else []
    shapes = [shape for file in files for shape in tensor_shapes(file).values()]
    values = read_json(path)
    for key, value in _pairs(values) if weights else ():
        if ("layer" in key or "expert" in key) and type(value) is int and value > len(shapes):
            raise ValueError(
                f"{path}: `{key}` must fit the {len(shapes)} tensors beside it, got {value}. Take "
                "all files from one model."
            )
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        wanted = _parameters(config) if weights else 0
    except Exception as error:  # whatever the model's own constructor makes of odd numbers
        raise ValueError(
            f"{path}: transformers cannot make a model of it: {error!s:.200}. Take all files from "
            "one model."
        ) from error
    held = sum(map(prod, shapes))
    if wanted > held * (_PACKED if values.get("quantization_config") else 1):
        raise ValueError(
            f"{path}: a model so described has {wanted:,} parameters, the weights beside it are "
            f"{held:,}. Take all files from one model."
        )
    return config


def _parameters(config: "PretrainedConfig") -> int:
    """How many parameters a model has that no memory is spent on."""
    import torch
    from transformers import AutoModel

    with quiet(), torch.device("meta"):
        model = AutoModel.from_config(config, trust_remote_code=False)
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
