"""Low-rank matrices: PEFT finds, names, saves and merges them; our operation computes them."""

from netllm_adapt.lora._add import add_lora
from netllm_adapt.lora._backends import Backend, chosen, register_backend, use_backend
from netllm_adapt.lora._grouped import lora_linear_grouped
from netllm_adapt.lora._int8 import check_int8, has_int8, int8_products
from netllm_adapt.lora._kept import forget
from netllm_adapt.lora._layer import LoraLinear, outputs_of
from netllm_adapt.lora._load import load_lora
from netllm_adapt.lora._mixed import Adapter, lora_linear_mixed
from netllm_adapt.lora._op import lora_linear
from netllm_adapt.lora._packed import Packed
from netllm_adapt.lora._route import adapters, mixes, train_adapters
from netllm_adapt.lora._save import active_adapter, save_lora

__all__ = [
    "Adapter",
    "Backend",
    "LoraLinear",
    "Packed",
    "active_adapter",
    "adapters",
    "add_lora",
    "check_int8",
    "chosen",
    "forget",
    "has_int8",
    "int8_products",
    "load_lora",
    "lora_linear",
    "lora_linear_grouped",
    "lora_linear_mixed",
    "mixes",
    "outputs_of",
    "register_backend",
    "save_lora",
    "train_adapters",
    "use_backend",
]
