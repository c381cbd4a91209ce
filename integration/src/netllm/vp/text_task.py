"""Viewport prediction with answers as text: the comparators of the paper's motivation.

`prompt`: the history is text too, so nothing but low-rank matrices is learned. `token`: the history
enters through our encoder, trained along, and only the answer is text. Both use the language
model's own tokenizer and LM head, and learn the next token of the answer; the answer is generated
token by token and parsed. Data, trainer, recipe, checkpoints and metrics are those of `vp`.

Source: NetLLM (Wu et al., SIGCOMM 2024), section 3 and figure 2. The paper's prompt and its rule
for valid answers are not published; ours are in `netllm.vp.text.written_viewports`. Where an
answer is not valid the last known viewport is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.task import Policy, SupervisedTask
from netllm.vp.task import VP
from netllm.vp.text.policy import TextPolicy
from netllm.vp.text.predictor import TextPredictor
from netllm.vp.text.written_viewports import Answer, History

if TYPE_CHECKING:
    from netllm_adapt import Predictor, Recipe
    from netllm_sims.vp import Setting
    from torch import nn


class Token(VP):
    """Viewport prediction whose answers are text: all layers are kept, whose LM head it is."""

    layers = None
    training: Mapping[str, Any] = {"steps": 600, "batch": 8, "micro_batch": 4, "average": 0.98}

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """The answer as text."""
        return Answer(width=width, horizon=setting.horizon)

    def assemble(self, recipe: Recipe, **parts: Any) -> TextPredictor:
        """A model that answers token by token."""
        return TextPredictor(**parts)

    usual_recipe = SupervisedTask.usual_recipe  # answers as text see no images

    def policy(self, model: Predictor, setting: Setting) -> Policy:
        """The model, with the share of its answers that were valid."""
        return TextPolicy.of(model, setting)


class Prompt(Token):
    """Viewport prediction whose history is text too: prompt learning."""

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """The history as text."""
        return History(width=width, history=setting.history)


def train(
    task: Token,
    setting: Setting,
    *,
    out: Path | str,
    backbone: str = "smollm2-135m",
    steps: int | None = None,
    seed: int = 0,
    command: str = "",
    **overrides: Any,
) -> TextPredictor:
    """Train a model that answers as text, and return it; its last checkpoint is the one kept.

    Answers take seconds, so that none is chosen by validation.

    Args:
        task: `Prompt()` or `Token()`.
        setting: whose training part is learned from.
        out: folder of the run, as of `netllm adapt`.
        backbone: has a tokenizer.
        steps: optimiser steps; the recipe's own number if None.
        seed: of everything random.
        command: remembered in the checkpoint.
        overrides: other fields of the recipe.

    Raises:
        ValueError: for values that cannot be, or a folder that holds a run.
    """
    from netllm_adapt import fit

    from netllm.report.provenance import facts_of
    from netllm.task.build_model import build_model
    from netllm.task.fields import changed

    changes = {"seed": seed, **({} if steps is None else {"steps": steps}), **overrides}
    recipe = changed(task.recipe(backbone), changes)
    plain: Any = task
    model: Any = build_model(plain, setting, backbone, recipe)
    folders = {"trajectories": setting.trajectories, "frames": setting.frames}
    own = {name: folder for name, folder in folders.items() if folder is not None}
    model.state["rate_hz"] = float(setting.rate_hz)
    model.about |= facts_of(task.name, setting, [], own)
    model.about |= {"command": command} if command else {}
    fitted: Any = fit(model, task.experience(None, setting, recipe), recipe=recipe, out=out)
    return fitted


def train_prompt(setting: Setting, **run: Any) -> TextPredictor:
    """Prompt learning for `netllm train-baseline`; see `train`."""
    return train(Prompt(), setting, **run)


def train_token(setting: Setting, **run: Any) -> TextPredictor:
    """Token-based answers for `netllm train-baseline`; see `train`."""
    return train(Token(), setting, **run)
