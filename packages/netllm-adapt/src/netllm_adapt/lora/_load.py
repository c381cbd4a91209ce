import os
import textwrap
import warnings
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel
from safetensors import safe_open
from transformers import PreTrainedModel

from netllm_adapt.lora._layer import calm, use_our_layer


def load_lora(
    backbone: PreTrainedModel, folder: str | os.PathLike[str], *, trainable: bool = False
) -> PeftModel:
    """The backbone with the adapter that PEFT saved in ``folder``, ours or anybody's.

    An adapter that was trained on the model with its LM head fits as well: the head's prefix is
    taken off the names.

    Args:
        backbone: A plain one; it is changed in place.
        folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        trainable: Whether the adapter goes on training.

    Raises:
        FileNotFoundError: If one of the files is missing.
        ValueError: If the adapter's matrices do not fit the backbone's layers.
    """
    folder = Path(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} must exist: PEFT writes it with an adapter.")
    config = PeftConfig.from_pretrained(str(folder))
    if isinstance(config, LoraConfig):
        use_our_layer(config)
    try:
        with calm(), warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return PeftModel.from_pretrained(
                backbone,
                str(folder),
                config=config,
                is_trainable=trainable,
                key_mapping=_without_head(backbone, folder),
            )
    except (RuntimeError, UserWarning, ValueError) as error:
        raise ValueError(
            f"{folder / 'adapter_model.safetensors'} must fit the backbone; was it made for "
            f"another one? PEFT says: {textwrap.shorten(str(error), 300)}"
        ) from error


def _without_head(backbone: PreTrainedModel, folder: Path) -> dict[str, str] | None:
    """How names given under an LM head become names of the backbone itself."""
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        parents = {key.split(".")[2] for key in file.keys()}  # noqa: SIM118
    if len(parents) != 1 or hasattr(backbone, parent := parents.pop()):
        return None
    return {rf"^{parent}\.": ""}  # PEFT takes "base_model.model." off before
