"""Memory that backbones of known shapes need: parameters, frozen weights by precision, adapter.

    python benchmarks/sizes.py [--quick] [--json FILE]
    python benchmarks/sizes.py --documents FILE

Nothing is downloaded or computed: the networks are built without memory ("meta" tensors) from the
shapes in their published configurations. Weights are all that a network holds but the LM head, the
token embedding included; 4 and 8 bits are those of linear layers within blocks, with a scale per 64
numbers or per row. Norms that only Gemma has are left out. The adapter is rank 32 at queries and
values, kept in float32 with its two moments and its gradient. Activations come on top:
benchmarks/memory.py measures a whole training step. `--documents` writes the table of an earlier
run's JSON into docs/backbones.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _documents import put

GIB = 2**30
RANK = 32
ADAPTER_BYTES = 4 * 4
"""Per trainable number: value, gradient and two moments, in float32."""
BITS = {"bf16": 16.0, "int8": 8.0, "nf4": 4 + 8 / 64}

# name: width, MLP, blocks, heads, heads of keys and values, width of a head, vocabulary.
SHAPES = {
    "SmolLM2-135M": (576, 1536, 30, 9, 3, 64, 49_152),
    "Gemma-3-270M": (640, 2048, 18, 4, 1, 256, 262_144),
    "SmolLM2-360M": (960, 2560, 32, 15, 5, 64, 49_152),
    "Qwen2.5-0.5B": (896, 4864, 24, 14, 2, 64, 151_936),
    "Gemma-3-1B": (1152, 6912, 26, 4, 1, 256, 262_144),
    "Llama-3.2-1B": (2048, 8192, 16, 32, 8, 64, 128_256),
    "Qwen2.5-1.5B": (1536, 8960, 28, 12, 2, 128, 151_936),
    "Llama-3.2-3B": (3072, 8192, 28, 24, 8, 128, 128_256),
    "Llama-2-7B": (4096, 11_008, 32, 32, 32, 128, 32_000),
    "Mistral-7B": (4096, 14_336, 32, 32, 8, 128, 32_000),
    "Llama-3.1-8B": (4096, 14_336, 32, 32, 8, 128, 128_256),
}


def configuration(name: str) -> Any:
    """The network's configuration, of transformers."""
    from transformers import LlamaConfig

    width, mlp, blocks, heads, few, head, vocabulary = SHAPES[name]
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=few,
        head_dim=head,
        attention_bias=name.startswith("Qwen"),  # its output projection has none: 1e-5 of the sum
    )


def network(name: str) -> Any:
    """The network without memory, as transformers builds it."""
    import torch
    from transformers import LlamaModel

    with torch.device("meta"):
        return LlamaModel(configuration(name))


def sizes(name: str) -> dict[str, float]:
    """Parameters, GiB of weights by precision, and of the adapter while it trains."""
    from torch import nn

    model = network(name)
    total = sum(parameter.numel() for parameter in model.parameters())
    linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    inside = sum(layer.weight.numel() for layer in linears)
    adapted = [
        layer for path, layer in model.named_modules() if path.endswith(("q_proj", "v_proj"))
    ]
    trainable = sum(RANK * (layer.in_features + layer.out_features) for layer in adapted)
    weights = {
        f"{kind}_gib": ((total - inside) * 2 + inside * bits / 8) / GIB
        for kind, bits in BITS.items()
    }
    return {
        "parameters": total,
        **weights,
        "trainable": trainable,
        "adapter_gib": trainable * ADAPTER_BYTES / GIB,
    }


def table(document: dict[str, dict[str, float]]) -> str:
    head = [
        "| shape of | parameters | weights, bf16 | int8 | nf4 | trainable | adapter, training |",
        f"|---|{'---:|' * 6}",
    ]
    rows = [
        f"| {name} | {one['parameters'] / 1e6:,.0f} M | {one['bf16_gib']:.2f} GiB | "
        f"{one['int8_gib']:.2f} GiB | {one['nf4_gib']:.2f} GiB | {one['trainable'] / 1e6:.1f} M | "
        f"{one['adapter_gib']:.2f} GiB |"
        for name, one in document.items()
    ]
    return "\n".join([*head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest and the largest")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put("docs/backbones.md", "sizes", table(json.loads(args.documents.read_text())))
        print(f"docs/backbones.md now holds the table of {args.documents}")
        return
    names = [*SHAPES]
    document = {name: sizes(name) for name in (names[:: len(names) - 1] if args.quick else names)}
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
