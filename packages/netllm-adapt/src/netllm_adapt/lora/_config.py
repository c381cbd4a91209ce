import textwrap
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from peft import PeftConfig

from netllm_adapt.files.reading import decode_json, read_bounded, tensor_shapes

_MOST_BYTES = 4_194_304
_ELSEWHERE = ("auto_mapping", "base_model_name_or_path", "revision")
"""Names of classes to import and models to fetch; the backbone is given, and is all there is."""

Rank = Annotated[int, Meta(ge=1, le=1 << 20)]
Share = Annotated[float, Meta(ge=0, le=1)]
Names = list[str] | str | None


class Adapter(msgspec.Struct):
    """An adapter's configuration, as PEFT writes it."""

    peft_type: str
    r: Rank = 8
    lora_alpha: float | None = None
    lora_dropout: Share = 0.0
    target_modules: Names = None
    exclude_modules: Names = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: Names = None
    rank_pattern: dict[str, Rank] | None = None
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


def read_adapter(folder: Path) -> PeftConfig:
    """The configuration of an adapter's folder, without what leads elsewhere.

    Raises:
        ValueError: naming the file, if it is damaged, names code, or asks for larger matrices than
            those beside it.
    """
    path = folder / "adapter_config.json"
    content = read_bounded(path, _MOST_BYTES)
    known: Adapter = decode_json(content, Adapter, name=str(path))
    _check_ranks(known, folder, path)
    values: dict[str, Any] = decode_json(content, dict[str, Any], name=str(path))
    kept = {name: value for name, value in values.items() if name not in _ELSEWHERE}
    try:
        config: PeftConfig = PeftConfig.from_peft_type(**kept)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be as PEFT writes it ({type(error).__name__}: "
            f"{textwrap.shorten(str(error), 300)}). Copy it again."
        ) from error
    return config


def _check_ranks(known: Adapter, folder: Path, path: Path) -> None:
    """Refuse ranks that no matrix has: PEFT takes their memory before it reads any."""
    shapes = tensor_shapes(folder / "adapter_model.safetensors").values()
    most = max((size for shape in shapes for size in shape), default=0)
    rank = max([known.r, *(known.rank_pattern or {}).values()])
    if rank > most:
        raise ValueError(
            f"{path}: ranks must be at most {most}, the largest size in adapter_model.safetensors, "
            f"got {rank}. Copy the adapter again."
        )
