"""Adapters are saved and loaded in PEFT's own format."""

import os
import re
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel

from netllm_adapt.files.reading import decode_json, read_bounded, tensor_shapes
from netllm_adapt.lora.add_adapter import active_adapter, check_name, insert
from netllm_adapt.lora.peft_layer import plain_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MOST_BYTES = 4_194_304
"""Of a configuration."""
_ELSEWHERE = ("auto_mapping", "base_model_name_or_path", "revision")
"""Names of classes to import and models to fetch; the backbone is given, and is all there is."""
_FAULTS = (AttributeError, LookupError, RuntimeError, TypeError, UserWarning, ValueError, re.error)
"""What PEFT makes of values that are none of its own."""


def save_lora(model: PeftModel, folder: str | os.PathLike[str], *, name: str | None = None) -> None:
    """Write one adapter: ``adapter_config.json`` and ``adapter_model.safetensors`` in ``folder``.

    PEFT's own ``save_pretrained`` would first ask the hub whether the backbone's vocabulary
    changed; the embedding is frozen and unused here, so nothing leaves the machine.

    Args:
        model: Holds the adapter, and maybe others.
        folder: Is made if it is not there.
        name: Of the adapter in the model; the active one if None. The files do not know it.

    Raises:
        ValueError: If the model has no adapter of that name, or several are active and none named.
    """
    name = active_adapter(model) if name is None else name
    if name not in model.peft_config:
        raise ValueError(
            f"`name` must be one of the model's adapters {[*model.peft_config]}, got {name!r}."
        )
    model.save_pretrained(str(folder), selected_adapters=[name], save_embedding_layers=False)
    if name == "default":
        return
    own = Path(folder) / name  # PEFT's place for every other name
    for file in own.iterdir():
        file.replace(Path(folder) / file.name)
    own.rmdir()


def load_lora(
    backbone: PreTrainedModel | PeftModel,
    folder: str | os.PathLike[str],
    *,
    trainable: bool = False,
    name: str = "default",
) -> PeftModel:
    """The backbone with the adapter that PEFT saved in ``folder``, ours or anybody's.

    An adapter that was trained on the model with its LM head fits as well: the prefix that
    transformers gives the backbone there is taken off the names.

    Args:
        backbone: A plain one, or one with other adapters (``adapters`` says which rows use which);
            it is changed in place.
        folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        trainable: Whether the adapter goes on training.
        name: Of the adapter in the model.

    Raises:
        FileNotFoundError: If one of the files is missing.
        ValueError: If the adapter's matrices do not fit the backbone's layers, naming the first
            that does not, ``adapter_config.json`` is damaged, or the backbone has an adapter of
            that name.
    """
    check_name(backbone, name)
    folder = Path(folder)
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} must exist: PEFT writes it with an adapter.")
    config = _read_config(folder)
    config.inference_mode = not trainable
    try:
        mapping = _key_mapping(backbone, folder)
        return _inserted(backbone, folder, config, name, mapping)
    except _FAULTS as error:
        raise ValueError(
            f"{folder / WEIGHTS} must fit the backbone; was it made for another one? "
            f"{textwrap.shorten(str(error), 300)}"
        ) from error


def _inserted(
    backbone: PreTrainedModel | PeftModel,
    folder: Path,
    config: PeftConfig,
    name: str,
    mapping: dict[str, str] | None,
) -> PeftModel:
    """The backbone with the adapter; if the files do not fit, it is as it was before."""
    beside, training = isinstance(backbone, PeftModel), plain_of(backbone).training
    trainable = not config.inference_mode
    model = insert(backbone, config, name, trainable=trainable)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*missing adapter keys.*")  # told below
            options: Any = {"is_trainable": trainable, "key_mapping": mapping}
            loaded = model.load_adapter(str(folder), adapter_name=name, **options)
        astray = [*loaded.missing_keys, *(k for k in loaded.unexpected_keys if "lora_" in k)]
        if astray:
            raise ValueError(f"no place or no weights for {astray[0]}")
    except _FAULTS:
        if beside:
            model.delete_adapter(name)
        else:
            model.unload()
        raise
    finally:
        if beside:
            model.train(training)  # PEFT sets the whole model to eval mode
    return model


def _key_mapping(backbone: PreTrainedModel | PeftModel, folder: Path) -> dict[str, str] | None:
    """How the file's names of layers become the backbone's: without the prefix under an LM head.

    Raises:
        ValueError: If the backbone lacks one of the layers.
    """
    plain = plain_of(backbone)
    keys = [key.removeprefix("base_model.model.") for key in tensor_shapes(folder / WEIGHTS)]
    parent = plain.base_model_prefix
    headed = {key.split(".")[0] for key in keys} == {parent} and not hasattr(plain, parent)
    present = {name for name, _ in plain.named_modules()}
    for key in keys:
        name = key.split(".lora_")[0].removeprefix(f"{parent}." if headed else "")
        if ".lora_" in key and name not in present:
            raise ValueError(f"It adapts {name}, which this backbone has not.")
    # PEFT takes "base_model.model." off before.
    return {rf"^{parent}\.": ""} if headed else None


_Rank = Annotated[int, Meta(ge=1, le=1 << 20)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Names = list[str] | str | None


class _Config(msgspec.Struct):
    """An adapter's configuration, as PEFT writes it."""

    peft_type: str
    r: _Rank = 8
    lora_alpha: float | None = None
    lora_dropout: _Share = 0.0
    target_modules: _Names = None
    exclude_modules: _Names = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: _Names = None
    rank_pattern: dict[str, _Rank] | None = None
    alpha_pattern: dict[str, float] | None = None
    modules_to_save: list[str] | None = None
    bias: str = "none"
    task_type: str | None = None
    init_lora_weights: bool | str | None = None
    inference_mode: bool = False
    fan_in_fan_out: bool = False
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    megatron_config: None = None
    """PEFT would import the module that `megatron_core` beside it names."""
    layer_replication: None = None
    """PEFT would lay the backbone's layers anew, in any number."""


def _read_config(folder: Path) -> PeftConfig:
    """The configuration of an adapter's folder, without what leads elsewhere.

    Raises:
        ValueError: naming the file, if it is damaged, names code, or asks for larger matrices than
            those beside it: PEFT takes their memory before it reads any.
    """
    path = folder / CONFIG
    content = read_bounded(path, _MOST_BYTES)
    known: _Config = decode_json(content, _Config, name=str(path))
    shapes = tensor_shapes(folder / WEIGHTS).values()
    most = max((size for shape in shapes for size in shape), default=0)
    rank = max([known.r, *(known.rank_pattern or {}).values()])
    if rank > most:
        raise ValueError(
            f"{path}: ranks must be at most {most}, the largest size in {WEIGHTS}, got {rank}. "
            "Copy the adapter again."
        )
    values: dict[str, Any] = decode_json(content, dict[str, Any], name=str(path))
    own = {name: value for name, value in values.items() if name not in _ELSEWHERE}
    try:
        config: PeftConfig = PeftConfig.from_peft_type(**own)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be as PEFT writes it ({type(error).__name__}: "
            f"{textwrap.shorten(str(error), 300)}). Copy it again."
        ) from error
    return config
