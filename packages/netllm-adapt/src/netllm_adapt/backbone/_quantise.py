"""Frozen weights in fewer bits, by bitsandbytes (extra ``quantised``)."""

import difflib
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("nf4", "int8")
_LEAST = "0.48"  # the first that lists CPUs as supported
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_INSTALL = 'Run: python -m pip install --upgrade "netllm-adapt[quantised]"'


def check_quantise(kind: str, dtype: torch.dtype) -> None:
    """Nothing, if weights of ``dtype`` can be quantised so here.

    Raises:
        ValueError: If ``kind`` is unknown, ``dtype`` has none, or bitsandbytes is too old.
        ModuleNotFoundError: If bitsandbytes is missing.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"`quantise` must be one of {', '.join(KINDS)}, got {kind!r}.{hint}")
    if dtype not in _DTYPES:
        raise ValueError(
            f"`quantise` needs `dtype` bfloat16, float16 or float32, got {dtype}: bitsandbytes has "
            "no other."
        )
    try:
        found = version("bitsandbytes")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"`quantise` needs bitsandbytes. {_INSTALL}") from error
    if _numbers(found) < _numbers(_LEAST):
        raise ValueError(
            f"`quantise` needs bitsandbytes {_LEAST} or newer, {found} is installed. {_INSTALL}"
        )


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".")[:2])


def quantise_linears(model: "PreTrainedModel", kind: str) -> None:
    """Put layers in ``nf4`` or ``int8`` in place of the model's linear ones, one by one.

    Source: 4 bits of NormalFloat in blocks of 64, their scales in 8 bits: QLoRA (Dettmers et al.,
    NeurIPS 2023); 8 bits by rows of the weight: LLM.int8 (Dettmers et al., NeurIPS 2022), here
    without rounding activations.
    """
    from netllm_adapt.lora import _bits
    from netllm_adapt.lora._targets import linear_layers

    for name, layer in linear_layers(model).items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, _bits.quantised(layer, kind))
