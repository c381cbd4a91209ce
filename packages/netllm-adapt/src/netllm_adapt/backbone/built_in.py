"""The backbones that this package registers itself, as any other package would."""

import tomllib
from pathlib import Path

import msgspec

from netllm_adapt.backbone.catalogue import Backbone

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_KNOWN = msgspec.convert(_TABLES, dict[str, Backbone])

SMOLLM2_135M = _KNOWN["smollm2-135m"]
GEMMA3_270M = _KNOWN["gemma3-270m"]
TINY_LLAMA = _KNOWN["tiny-random-llama"]
TINY_MISTRAL = _KNOWN["tiny-random-mistral"]
TINY_GEMMA3 = _KNOWN["tiny-random-gemma3"]
TINY_GPT2 = _KNOWN["tiny-random-gpt2"]
TINY_OPT = _KNOWN["tiny-random-opt"]
