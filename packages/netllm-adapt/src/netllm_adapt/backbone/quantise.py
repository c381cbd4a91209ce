"""Frozen weights in fewer bits, by transformers and bitsandbytes (extra ``quantised``)."""

import tempfile
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("nf4", "int8")
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_INSTALL = "In a clone: pip install './packages/netllm-adapt[quantised]'"


def check_quantise(kind: str, dtype: torch.dtype) -> None:
    """Raise unless weights of ``dtype`` can be quantised so here.

    Raises:
        ValueError: If ``kind`` is unknown, ``dtype`` has none, or bitsandbytes is too old.
        ModuleNotFoundError: If bitsandbytes is missing.
    """
    if kind not in KINDS:
        raise ValueError(f"`quantise` must be one of {', '.join(KINDS)}, got {kind!r}.")
    if dtype not in _DTYPES:
        raise ValueError(
            f"`quantise` needs `dtype` bfloat16, float16 or float32, got {dtype}: bitsandbytes has "
            "no other."
        )
    try:
        installed = version("bitsandbytes")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"`quantise` needs bitsandbytes. {_INSTALL}") from error
    if [int(part) for part in installed.split(".")[:2]] < [0, 48]:
        # 0.48 is the first that lists CPUs as supported
        raise ValueError(
            f"`quantise` needs bitsandbytes 0.48 or newer, {installed} is installed. {_INSTALL}"
        )


def quantisation(kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """What ``from_pretrained`` is told, so that linear layers are in ``nf4`` or ``int8``.

    Source: 4 bits of NormalFloat in blocks of 64, their scales in 8 bits: QLoRA (Dettmers et al.,
    NeurIPS 2023); 8 bits by rows of the weight: LLM.int8 (Dettmers et al., NeurIPS 2022).
    """
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=kind == "nf4",
        load_in_8bit=kind == "int8",
        llm_int8_threshold=0.0,
        llm_int8_skip_modules=["lm_head"],
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": "cpu"}}


def reload_quantised(model: "PreTrainedModel", kind: str, dtype: torch.dtype) -> "PreTrainedModel":
    """A model of random weights in fewer bits; transformers quantises what it reads from files."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        options = quantisation(kind, dtype)
        return type(model).from_pretrained(folder, dtype=dtype, local_files_only=True, **options)


def same_in_both_modes(model: "PreTrainedModel") -> "PreTrainedModel":
    """The model, whose quantised layers compute the same while it learns and while it decides.

    In evaluation bitsandbytes rearranges weights in 4 bits on some CPUs, for good, after which no
    gradient passes; and on CPUs it rounds what passes through weights in 8 bits.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
        elif isinstance(layer, Linear8bitLt):
            layer.__class__ = _exact_8bit()
            layer.init_8bit_state()
            layer.train()
    return model


@cache
def _exact_8bit() -> Any:
    from bitsandbytes.nn import Linear8bitLt

    class Exact8bit(Linear8bitLt):  # type: ignore[misc, unused-ignore]
        """A layer in 8 bits that does not round what passes through it, on CPUs."""

        def train(self, mode: bool = True) -> Any:
            """Always as while learning."""
            return super().train(True)

        def init_8bit_state(self) -> None:
            """Once more after PEFT's DoRA, which makes a new weight without its scales."""
            scale = self.state.SCB
            super().init_8bit_state()
            if self.state.SCB is None:
                self.state.SCB = scale

        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            """Moved to a device, with what bitsandbytes would leave behind."""
            super()._apply(fn, recurse)
            scale = self.state.SCB.to(self.weight.device)
            self.state.CB, self.state.SCB = self.weight.data, scale
            return self

    return Exact8bit
