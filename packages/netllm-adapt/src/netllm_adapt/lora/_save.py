import os

from peft import PeftModel


def save_lora(model: PeftModel, folder: str | os.PathLike[str]) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` into ``folder``.

    PEFT's own ``save_pretrained`` would first ask the hub whether the backbone's vocabulary
    changed; the embedding is frozen and unused here, so nothing leaves the machine.
    """
    model.save_pretrained(str(folder), save_embedding_layers=False)
