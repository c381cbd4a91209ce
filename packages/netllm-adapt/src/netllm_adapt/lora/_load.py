import os
import re
import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import PreTrainedModel

from netllm_adapt.lora._add import add_another, check_name
from netllm_adapt.lora._config import read_adapter
from netllm_adapt.lora._layer import calm, entitle, plain_of, use_our_layer

_FAULTS = (AttributeError, LookupError, RuntimeError, TypeError, UserWarning, ValueError, re.error)
"""What PEFT makes of values that are none of its own."""


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
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} must exist: PEFT writes it with an adapter.")
    config = read_adapter(folder)
    if isinstance(config, LoraConfig):
        use_our_layer(config)
    try:
        with calm(), warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            keys = _keys(folder)
            mapping = _without_head(backbone, keys)
            adapted = _adapted(keys, mapping or {})
            _check_layers(backbone, adapted)
            if isinstance(backbone, PeftModel):
                model = _load_another(backbone, folder, config, name, trainable, mapping)
            else:
                model = PeftModel.from_pretrained(
                    backbone,
                    str(folder),
                    adapter_name=name,
                    config=config,
                    is_trainable=trainable,
                    key_mapping=mapping,
                )
                _check_places(model, adapted, name)
                entitle(model)
    except _FAULTS as error:
        raise ValueError(
            f"{folder / 'adapter_model.safetensors'} must fit the backbone; was it made for "
            f"another one? {textwrap.shorten(str(error), 300)}"
        ) from error
    return model


def _load_another(
    model: PeftModel,
    folder: Path,
    config: PeftConfig,
    name: str,
    trainable: bool,
    mapping: dict[str, str] | None,
) -> PeftModel:
    """Beside the adapters that the model has; if the files do not fit, it is as it was before."""
    training = model.get_base_model().training  # the wrapper's own mode says nothing
    add_another(model, name, config, trainable=trainable)
    try:
        loaded = model.load_adapter(
            str(folder), adapter_name=name, is_trainable=trainable, key_mapping=mapping
        )
        # Before PEFT 0.19 nobody else complains.
        astray = [*loaded.missing_keys, *(k for k in loaded.unexpected_keys if "lora_" in k)]
        if astray:
            raise ValueError(f"no place or no weights for {astray[0]}")
    except (RuntimeError, UserWarning, ValueError):
        model.delete_adapter(name)
        raise
    finally:
        model.train(training)
    return entitle(model)


def _keys(folder: Path) -> list[str]:
    """The names of the adapter's matrices, without PEFT's own prefix."""
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        return [key.removeprefix("base_model.model.") for key in file.keys()]  # noqa: SIM118


def _without_head(
    backbone: PreTrainedModel | PeftModel, keys: Iterable[str]
) -> dict[str, str] | None:
    """How names given under an LM head become names of the backbone itself."""
    parent = plain_of(backbone).base_model_prefix
    if {key.split(".")[0] for key in keys} != {parent} or hasattr(backbone, parent):
        return None
    return {rf"^{parent}\.": ""}  # PEFT takes "base_model.model." off before


def _adapted(keys: Iterable[str], mapping: dict[str, str]) -> list[str]:
    """The layers that have low-rank matrices, by their names in the backbone."""
    names = [key.split(".lora_")[0] for key in keys if ".lora_" in key]
    for pattern, new in mapping.items():
        names = [re.sub(pattern, new, name) for name in names]
    return list(dict.fromkeys(names))


def _check_layers(backbone: PreTrainedModel | PeftModel, adapted: Iterable[str]) -> None:
    present = {name for name, _ in plain_of(backbone).named_modules()}
    for name in adapted:
        if name not in present:
            raise ValueError(f"It adapts {name}, which this backbone has not.")


def _check_places(model: PeftModel, adapted: Iterable[str], adapter: str) -> None:
    layers = dict(model.get_base_model().named_modules())
    for name in adapted:
        layer = layers[name]
        if not isinstance(layer, LoraLayer) or adapter not in layer.r:
            raise ValueError(f"It has matrices for {name}, which its configuration leaves out.")
