"""A tiny model, its recipe and its episodes, for tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapt_parts import LinearEncoder, LinearHead, make_episode
from netllm_adapt import AdaptedModel, BackboneSpec, Recipe, add_lora, load_backbone
from netllm_adapt.batches import collate, plan
from netllm_adapt.lora import has_int8

VNNI = pytest.mark.skipif(not has_int8(), reason="no AVX512-VNNI here")
EPISODES = [make_episode(12, seed) for seed in range(8)]


def make_model(*, dropout: float = 0.1) -> AdaptedModel:
    spec = BackboneSpec("tiny-random-llama", layers=1, dtype="float32")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = load_backbone(spec.name, layers=1, dtype=spec.dtype)
        backbone = add_lora(plain, rank=2, dropout=dropout)
        return AdaptedModel(
            backbone=backbone,
            encoder=LinearEncoder(64),
            head=LinearHead(64),
            spec=spec,
            window=4,
            segment=24,
        )


def recipe(**changes: object) -> Recipe:
    settings: dict[str, object] = {
        "steps": 12,
        "batch": 4,
        "warmup": 2,
        "validate_every": 4,
        "log_every": 2,
        "window": 4,
        "segment": 24,
    }
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


def accuracy(model: AdaptedModel) -> dict[str, float]:
    segments = plan([model.sizes(e) for e in EPISODES], segment=model.segment, window=model.window)
    batch = collate(EPISODES, segments)
    with torch.no_grad():
        answers = model.head.answer(model.hidden(batch), batch.observations)
    return {"accuracy": float((answers == batch.labels)[batch.learn].float().mean())}


def weights(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.safetensors"))}
