"""Backbones that experiments are made with: folders, as transformers writes them.

    from netllm.verbs.reproducing.backbones import make
    make("markov", Path("markov"), layers=4)

They ask what of a language model helps: language (`markov` learned something else), its MLPs
(`attention` has none) or any network at all (`mean`).
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.task.base import DEFAULT_BACKBONE
from netllm.unknown_names import unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import LlamaConfig, PreTrainedModel

_log = logging.getLogger(__name__)
STATES, SEQUENCES, LENGTH = 100, 8, 128


def make(kind: str, out: Path, *, layers: int, steps: int = 300) -> None:
    """Write a backbone of so many blocks into a folder, seeded, as wide as the default one.

    Args:
        kind: `markov`: all its weights were trained to tell the next state of a Markov chain, which
            has 100 states and one draw of transition probabilities, softmax of standard normal
            numbers. `attention`: the default backbone whose MLPs add nothing. `mean`: a token is
            given the mean of the tokens that it may see, by each block; no weight is learned.
        out: must not be there.
        layers: how many blocks.
        steps: how many `markov` is trained, each on 8 walks of 128 states.

    Raises:
        ValueError: if there is no such kind.

    Source: Wang et al., "Pre-training with Synthetic Data Helps Offline Reinforcement Learning",
    ICLR 2024, for `markov`.
    """
    import torch
    from netllm_adapt.backbone.quiet_transformers import quiet
    from netllm_adapt.files.writing import new_folder

    kinds: dict[str, Callable[[int], PreTrainedModel]]
    kinds = {"markov": partial(_markov, steps=steps), "attention": _attention, "mean": _mean}
    if kind not in kinds:
        raise unknown("kind of backbone", kind, kinds)
    with new_folder(out) as work, quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kinds[kind](layers).save_pretrained(work)


def _config(layers: int, **changes: Any) -> LlamaConfig:
    """The default backbone's configuration with so many blocks and a vocabulary of states."""
    from netllm_adapt.backbone import empty_backbone

    config: Any = empty_backbone(DEFAULT_BACKBONE, layers=layers).config
    few = {"vocab_size": STATES, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    for name, value in (few | changes).items():
        setattr(config, name, value)
    found: LlamaConfig = config
    return found


def _markov(layers: int, *, steps: int) -> PreTrainedModel:
    import torch
    from torch.optim import AdamW
    from torch.optim.lr_scheduler import OneCycleLR
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM(_config(layers))
    model = model.to(torch.float32)
    chances = torch.randn(STATES, STATES).softmax(-1)
    optimiser = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    rates = OneCycleLR(optimiser, max_lr=1e-3, total_steps=steps)
    losses = []
    for _ in range(steps):
        states = _walks(chances)
        loss = model(input_ids=states, labels=states).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rates.step()
        losses.append(loss.item())
    last = losses[-max(1, steps // 10) :]
    _log.info(
        "Pre-trained on Markov chains: %.3f nats per state in the last tenth, %.3f is the least "
        "there can be, %.3f in the first step.",
        sum(last) / len(last),
        _least(chances),
        losses[0],
    )
    plain: PreTrainedModel = model.model
    return plain


def _walks(chances: torch.Tensor) -> torch.Tensor:
    """Sequences of states, (sequence, time), each from any state."""
    import torch

    states = [torch.randint(STATES, (SEQUENCES,))]
    while len(states) < LENGTH:
        states.append(torch.multinomial(chances[states[-1]], 1)[:, 0])
    return torch.stack(states, dim=1)


def _least(chances: torch.Tensor) -> float:
    """The chain's entropy per state, in nats, in the long run."""
    import torch

    share = torch.linalg.matrix_power(chances.double(), 1000)[0]
    return -float((share[:, None] * chances * chances.log()).sum())


def _attention(layers: int) -> PreTrainedModel:
    from netllm_adapt.backbone import load_backbone

    model: Any = load_backbone(DEFAULT_BACKBONE, layers=layers)
    for block in model.layers:
        block.mlp.down_proj.weight.zero_()
    found: PreTrainedModel = model
    return found


def _mean(layers: int) -> PreTrainedModel:
    import torch
    from torch import nn
    from transformers import LlamaModel

    heads = _config(layers).num_attention_heads
    model: Any = LlamaModel(_config(layers, num_key_value_heads=heads, intermediate_size=16))
    for weight in model.parameters():
        nn.init.zeros_(weight) if weight.dim() > 1 else nn.init.ones_(weight)
    for block in model.layers:
        for part in (block.self_attn.v_proj, block.self_attn.o_proj):
            nn.init.eye_(part.weight)
    found: PreTrainedModel = model.to(torch.bfloat16)
    return found
