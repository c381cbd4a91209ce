"""Low-rank matrices are added, saved and loaded in PEFT's own format."""

import os
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from netllm_adapt.files.reading import decode_json, read_bounded, tensor_shapes
from netllm_adapt.lora.layer import name_layers, plain_of, quiet_peft, use_our_layer
from netllm_adapt.lora.targets import choose_targets, short_names

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MOST_BYTES = 4_194_304
"""Of a configuration."""
_ELSEWHERE = ("auto_mapping", "base_model_name_or_path", "revision")
"""Names of classes to import and models to fetch; the backbone is given, and is all there is."""
_FAULTS = (AttributeError, LookupError, RuntimeError, TypeError, UserWarning, ValueError, re.error)
"""What PEFT makes of values that are none of its own."""


def add_lora(
    backbone: PreTrainedModel | PeftModel,
    *,
    rank: int,
    alpha: float | None = None,
    targets: str | list[str] | None = None,
    dropout: float = 0.0,
    rslora: bool = False,
    seed: int = 0,
    name: str = "default",
    **options: Any,
) -> PeftModel:
    """The backbone as a PEFT model whose low-rank matrices are all that trains.

    The backbone is changed in place. The matrices are fp32, whatever its dtype; B starts at zero,
    so the first output is the backbone's own.

    Args:
        backbone: From ``load_backbone``; or from this function, which adds another adapter to it.
            Those before go on training if they did; ``adapters`` says which rows use which.
        rank: Of the matrices: at least 1, at most the smaller side of every target.
        alpha: The low-rank part is scaled by alpha / rank; None means alpha = rank.
        targets: Ends of the names of the layers to adapt, ``"all-linear"``, or None for the
            default of the model's type: query and value projections, ``c_attn`` for GPT-2.
        dropout: Share of a target's input dropped before the low-rank part while training.
        rslora: Scale by alpha / sqrt(rank) instead.
        seed: Of the first A; global random streams are left as they were.
        name: Of the adapter.
        **options: Any further field of ``peft.LoraConfig``, such as ``use_dora``.

    Raises:
        ValueError: If the backbone has an adapter of that name, or an argument does not fit it.

    Source: LoRA (Hu et al., ICLR 2022); rsLoRA (Kalajdzievski, 2023), through PEFT.
    """
    _check_name(backbone, name)
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be at least 0 and below 1, got {dropout}.")
    plain = plain_of(backbone)
    layers = choose_targets(plain, targets)
    ranks, alphas = options.get("rank_pattern") or {}, options.get("alpha_pattern") or {}
    for layer_name, layer in layers.items():
        _check_rank(_own(rank, ranks, layer_name), layer_name, layer)
        _check_alpha(_own(alpha, alphas, layer_name), layer_name)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type, unused-ignore]
        target_modules=sorted(layers) if targets == "all-linear" else short_names(plain, layers),
        lora_dropout=dropout,
        use_rslora=rslora,
        fan_in_fan_out=any(type(layer) is Conv1D for layer in layers.values()),
        **options,
    )
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(seed)
        if isinstance(backbone, PeftModel):
            return _add_another(backbone, name, use_our_layer(config), trainable=True)
        made = get_peft_model(backbone, use_our_layer(config), adapter_name=name)
        assert isinstance(made, PeftModel)
        return name_layers(made)


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
    _check_name(backbone, name)
    folder = Path(folder)
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} must exist: PEFT writes it with an adapter.")
    config = _read_config(folder)
    if isinstance(config, LoraConfig):
        use_our_layer(config)
    try:
        with quiet_peft(), warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            layers, mapping = _adapted_layers(backbone, folder)
            options: Any = {"is_trainable": trainable, "key_mapping": mapping}
            if isinstance(backbone, PeftModel):
                return _load_another(backbone, folder, config, name, options)
            options |= {"adapter_name": name, "config": config}
            model = PeftModel.from_pretrained(backbone, str(folder), **options)
            _check_adapted(model, layers, name)
            return name_layers(model)
    except _FAULTS as error:
        raise ValueError(
            f"{folder / WEIGHTS} must fit the backbone; was it made for another one? "
            f"{textwrap.shorten(str(error), 300)}"
        ) from error


def active_adapter(model: PeftModel) -> str:
    """The name of the one active adapter.

    Raises:
        ValueError: If several are active, or there is none.
    """
    if not isinstance(model, PeftModel):
        raise ValueError(
            f"The model must hold an adapter, got a {type(model).__name__}: use `add_lora` on it."
        )
    active = model.active_adapters
    if len(active) != 1:
        raise ValueError(f"The model must have one active adapter, got {active}. Name one.")
    return str(active[0])


def _check_name(backbone: nn.Module, name: str) -> None:
    """Raise unless the backbone can take an adapter ``name``.

    Raises:
        ValueError: If it has one of that name, or adapters that PEFT does not manage, or torch
            gives no module such a name.
    """
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name):
        raise ValueError(
            "`name` must be a string that is not empty, without '.', and none that a module uses "
            f"itself, such as 'forward', got {name!r}."
        )
    if isinstance(backbone, PeftModel):
        if name in backbone.peft_config:
            raise ValueError(
                f"The backbone has an adapter {name!r} already; give the other another `name`."
            )
    elif any(isinstance(module, BaseTunerLayer) for module in backbone.modules()):
        raise ValueError(
            "The backbone must be plain or what `add_lora` gave, this one has an adapter inside. "
            "Load it again."
        )


def _own(value: Any, patterns: Mapping[str, Any], name: str) -> Any:
    """The value of the layer `name`, for which PEFT's patterns may have one of its own."""
    return patterns.get(get_pattern_key(list(patterns), name), value)


def _check_rank(rank: Any, name: str, layer: nn.Module) -> None:
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise ValueError(f"`rank` must be a whole number, got {rank!r} for {name}.")
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank} for {name}.")
    sides: Any = layer.weight.shape
    if isinstance(layer, nn.Linear):  # a weight in 4 bits is packed, one column
        sides = layer.in_features, layer.out_features
    if rank > min(sides):
        raise ValueError(
            f"`rank` must be at most {min(sides)}, the smaller side of {name}, got {rank}."
        )


def _check_alpha(alpha: Any, name: str) -> None:
    if alpha is not None and not (isinstance(alpha, int | float) and 0 < alpha < float("inf")):
        raise ValueError(f"`alpha` must be a number above 0, got {alpha!r} for {name}.")


def _add_another(model: PeftModel, name: str, config: PeftConfig, *, trainable: bool) -> PeftModel:
    """One more adapter; PEFT would let the active one alone train, here those that did go on."""
    before = {parameter: weight.requires_grad for parameter, weight in model.named_parameters()}
    model.add_adapter(name, config)
    for parameter, weight in model.named_parameters():
        weight.requires_grad_(before.get(parameter, trainable and f".{name}." in parameter))
    return name_layers(model)


def _load_another(
    model: PeftModel, folder: Path, config: PeftConfig, name: str, options: dict[str, Any]
) -> PeftModel:
    """Beside the adapters that the model has; if the files do not fit, it is as it was before."""
    training = model.get_base_model().training  # the wrapper's own mode says nothing
    _add_another(model, name, config, trainable=options["is_trainable"])
    try:
        loaded = model.load_adapter(str(folder), adapter_name=name, **options)
        # Before PEFT 0.19 nobody else complains.
        astray = [*loaded.missing_keys, *(k for k in loaded.unexpected_keys if "lora_" in k)]
        if astray:
            raise ValueError(f"no place or no weights for {astray[0]}")
    except (RuntimeError, UserWarning, ValueError):
        model.delete_adapter(name)
        raise
    finally:
        model.train(training)
    return name_layers(model)


def _adapted_layers(
    backbone: PreTrainedModel | PeftModel, folder: Path
) -> tuple[list[str], dict[str, str] | None]:
    """The layers that have matrices in the file, and how names under an LM head are mapped.

    Raises:
        ValueError: If the backbone lacks one of the layers.
    """
    plain = plain_of(backbone)
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        keys = [key.removeprefix("base_model.model.") for key in file.keys()]  # noqa: SIM118
    parent = plain.base_model_prefix
    headed = {key.split(".")[0] for key in keys} == {parent} and not hasattr(plain, parent)
    names = [key.split(".lora_")[0] for key in keys if ".lora_" in key]
    names = [name.removeprefix(f"{parent}.") if headed else name for name in names]
    present = {name for name, _ in plain.named_modules()}
    for name in names:
        if name not in present:
            raise ValueError(f"It adapts {name}, which this backbone has not.")
    # PEFT takes "base_model.model." off before.
    return list(dict.fromkeys(names)), {rf"^{parent}\.": ""} if headed else None


def _check_adapted(model: PeftModel, names: Iterable[str], adapter: str) -> None:
    layers = dict(model.get_base_model().named_modules())
    for name in names:
        layer = layers[name]
        if not isinstance(layer, LoraLayer) or adapter not in layer.r:
            raise ValueError(f"It has matrices for {name}, which its configuration leaves out.")


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
