"""Low-rank matrices: PEFT finds, names, saves and merges them; our operation computes them."""

from netllm_adapt.lora.adapter_files import load_lora, save_lora
from netllm_adapt.lora.adapters_per_row import adapters, mixes, train_adapters
from netllm_adapt.lora.add_adapter import active_adapter, add_lora
from netllm_adapt.lora.autograd_function import chosen_backend, use_backend
from netllm_adapt.lora.frozen_weights import check_int8, forget, has_int8, int8_products
from netllm_adapt.lora.layer_group import Adapter
from netllm_adapt.lora.lora_linear import lora_linear, lora_linear_grouped, lora_linear_mixed
from netllm_adapt.lora.peft_layer import LoraLinear, outputs_of

__all__ = [
    "Adapter",
    "LoraLinear",
    "active_adapter",
    "adapters",
    "add_lora",
    "check_int8",
    "chosen_backend",
    "forget",
    "has_int8",
    "int8_products",
    "load_lora",
    "lora_linear",
    "lora_linear_grouped",
    "lora_linear_mixed",
    "mixes",
    "outputs_of",
    "save_lora",
    "train_adapters",
    "use_backend",
]
