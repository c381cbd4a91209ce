"""Train the CNN on a setting (needs the extra `learned`)."""

import copy
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tqdm
from netllm_sims.flows import Setting, metrics
from netllm_sims.flows import setting as named_setting
from torch import Tensor, nn

from netllm_baselines._recipes_and_best_weights import (
    check_recipe,
    few_threads,
    keep_best,
    override,
)
from netllm_baselines.flows.cnn import Weights
from netllm_baselines.flows.cnn_network import CNNNetwork, tensors
from netllm_baselines.flows.flow_features import numbers_of_classes

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CNNRecipe:
    """How the network is trained."""

    hidden: int = 64
    """Channels of the convolutions."""
    epochs: int = 40
    """Passes over the training flows."""
    batch: int = 128
    """Flows per gradient step."""
    rate: float = 3e-3
    """Peak of the one-cycle learning rate of AdamW."""
    weight_decay: float = 0.05
    """Of AdamW."""
    dropout: float = 0.3
    """Share of the features that is hidden in training."""

    def __post_init__(self) -> None:
        """Reject numbers that no training could use.

        Raises:
            ValueError: A count below 1, a rate that is not positive, a share outside [0, 1).
        """
        check_recipe(
            self,
            counts=("hidden", "epochs", "batch"),
            positive=("rate",),
            not_negative=("weight_decay",),
            shares_below_1=("dropout",),
        )


def train_cnn(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int | None = None,
    seed: int = 0,
    recipe: CNNRecipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float,
) -> Path:
    """Write the network with the best macro F1 on the validation part to `out`; return that path.

    AdamW under a one-cycle rate minimises the cross-entropy of the training part. The test part is
    never touched. A log with one JSON object per epoch is written beside `out`. Same seed, machine
    and threads: same file.

    Args:
        setting: A setting or its name.
        out: The `.npz` to write.
        steps: Flows to learn from, in whole passes; None for the recipe's epochs.
        seed: Of everything random.
        recipe: Other numbers than the default ones.
        threads: torch threads while training.
        command: Remembered in the file's metadata.
        overrides: Single fields of the recipe.

    Raises:
        ValueError: An override is no field of the recipe, or useless.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    recipe = override(recipe or CNNRecipe(), overrides)
    if steps is not None:
        recipe = override(recipe, {"epochs": max(1, round(steps / len(setting.of_part("train"))))})
    with few_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout too, which takes no generator
        return keep_best(_epochs(setting, recipe, _meta(setting, recipe, seed, command)), out)


def _epochs(
    setting: Setting, recipe: CNNRecipe, meta: dict[str, Any]
) -> Iterator[tuple[dict[str, float], Weights | None]]:
    """What to log after each epoch, and the parameters if they are the best so far."""
    seen, labels = _examples(setting, "train")
    statistics = len(setting.statistic_names)
    network = CNNNetwork(
        classes=len(setting.classes),
        statistics=statistics,
        hidden=recipe.hidden,
        dropout=recipe.dropout,
    )
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
    )
    total = recipe.epochs * -(-len(labels) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=total + 1)
    best, started = -np.inf, time.perf_counter()
    bar = tqdm.tqdm(range(1, recipe.epochs + 1), desc="cnn", unit="epoch", disable=None)
    for epoch in bar:
        loss = _pass_over(network, seen, labels, optimiser, schedule, recipe.batch)
        halves, score = _halved(network, setting)
        weights = None
        if score > best:
            best = score
            weights = Weights(arrays=halves, meta=meta | {"valid_macro_f1": score, "epoch": epoch})
        bar.set_postfix(train=f"{loss:.3f}", best=f"{best:.3f}")
        seconds = time.perf_counter() - started
        line = {"epoch": epoch, "train_loss": loss, "valid_macro_f1": score, "seconds": seconds}
        yield line, weights
    _log.info("best macro F1 on the validation part: %.4f", best)


def _pass_over(
    network: nn.Module,
    seen: dict[str, Tensor],
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    batch: int,
) -> float:
    """Learn from all flows once; the mean loss in nats on the way."""
    network.train()
    total = 0.0
    for rows in torch.randperm(len(labels)).split(batch):
        logits = network({name: values[rows] for name, values in seen.items()})
        loss = nn.functional.cross_entropy(logits, labels[rows])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        total += float(loss.detach()) * len(rows)
    return total / len(labels)


def _halved(network: nn.Module, setting: Setting) -> tuple[dict[str, np.ndarray], float]:
    """The parameters in half precision, and the macro F1 of so rounded ones."""
    halves = {name: value.half() for name, value in network.state_dict().items()}
    rounded = copy.deepcopy(network).eval()
    rounded.load_state_dict({name: value.float() for name, value in halves.items()})
    seen, labels = _examples(setting, "valid")
    with torch.inference_mode():
        answer = rounded(seen).argmax(1)
    score = metrics.macro_f1(labels.numpy(), answer.numpy())
    return {name: value.numpy() for name, value in halves.items()}, score


def _examples(setting: Setting, part: str) -> tuple[dict[str, Tensor], Tensor]:
    flows = setting.of_part(part)
    labels = numbers_of_classes(flows, setting.classes)
    return tensors(flows.observation()), torch.from_numpy(labels)


def _meta(setting: Setting, recipe: CNNRecipe, seed: int, command: str) -> dict[str, Any]:
    names = ("netllm-sims", "netllm-baselines", "torch")
    return {
        "kind": "flows-cnn",
        "classes": list(setting.classes),
        "packets": setting.packets,
        "statistics": list(setting.statistic_names),
        "hidden": recipe.hidden,
        "setting": setting.name,
        "synthetic": setting.synthetic,
        "seed": seed,
        "command": command,
        "recipe": asdict(recipe),
        "versions": {name: version(name) for name in names},
    }
