import os
from pathlib import Path

from peft import PeftModel


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
