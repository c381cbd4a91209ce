"""Adapt: the one training loop of adapted models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import tqdm
from accelerate import Accelerator
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from netllm_adapt.batches import Examples, SegmentedEpisodes
from netllm_adapt.checkpoint.save_and_load import describe
from netllm_adapt.device import learning_device
from netllm_adapt.episodes import Episode, digest
from netllm_adapt.lora import int8_products
from netllm_adapt.model.base import Adapted
from netllm_adapt.model.decider import AdaptedModel
from netllm_adapt.model.predictor import Predictor
from netllm_adapt.passes import check_passes, recomputing
from netllm_adapt.training.recipe import Recipe
from netllm_adapt.training.run_folder import Average, RunFolder, model_facts, trained

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=Adapted)


class Rows(Protocol):
    """What a run learns from, row by row; a batch of them is what the model's `forward` takes."""

    def __len__(self) -> int: ...

    def weight(self, row: int) -> int:
        """How many losses a row carries."""
        ...

    def batch(self, rows: Sequence[int]) -> Any:
        """Some rows as tensors, with `to(device)`."""
        ...


def order(step: int, *, batch: int, rows: int, seed: int) -> list[int]:
    """Which of `rows` rows the optimiser step `step` (from 0) learns from.

    Every epoch is a permutation of its own, drawn from the seed and the epoch's number, so that
    the order is a function of the step and a resumed run sees what the unbroken one would have.
    """
    drawn: list[int] = []
    position = step * batch
    while len(drawn) < batch:
        epoch, offset = divmod(position, rows)
        permutation = np.random.default_rng([seed, epoch]).permutation(rows)
        part = permutation[offset : offset + batch - len(drawn)]
        drawn.extend(int(i) for i in part)
        position += len(part)
    return drawn


def _optimizer(model: Adapted, recipe: Recipe) -> torch.optim.AdamW:
    lora = [p for n, p in trained(model).items() if n.startswith("backbone.")]
    rest = [p for n, p in trained(model).items() if not n.startswith("backbone.")]
    groups = [
        {"params": rest, "lr": recipe.learning_rate},
        {"params": lora, "lr": recipe.lora_learning_rate},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], weight_decay=recipe.weight_decay, fused=True
    )


class _Trainer:
    """One run: the model with its optimiser, schedule, average and folder."""

    def __init__(
        self,
        model: Adapted,
        rows: Rows,
        recipe: Recipe,
        folder: RunFolder,
        accelerator: Accelerator,
        device: torch.device,
    ) -> None:
        self.accelerator = accelerator
        self.device = device
        self.recipe = recipe
        self.folder = folder
        self.rows = rows
        if recipe.batch % accelerator.num_processes:
            raise ValueError(
                f"Recipe: `batch` must be a multiple of the {accelerator.num_processes} "
                f"processes, got {recipe.batch}."
            )
        optimizer = _optimizer(model.to(device), recipe)
        self.schedule: Any = get_cosine_schedule_with_warmup(
            optimizer, min(recipe.warmup, recipe.steps), recipe.steps
        )
        self.wrapped, self.optimizer = accelerator.prepare(model, optimizer)
        self.model: Adapted = accelerator.unwrap_model(self.wrapped)
        self.average = Average(self.model, recipe.average)
        self.step = 0

    def _micro_batches(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        mine = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        for first in range(0, len(mine), self.recipe.micro_batch):
            yield mine[first : first + self.recipe.micro_batch]

    def learn(self) -> float:
        """One optimiser step; the mean loss of its decisions.

        Raises:
            RuntimeError: if the loss or the gradient is not finite.
        """
        torch.manual_seed(hash((self.recipe.seed, self.step)) % 2**63)
        self.wrapped.train()
        total = torch.zeros((), device=self.device)
        drawn = order(
            self.step, batch=self.recipe.batch, rows=len(self.rows), seed=self.recipe.seed
        )
        learned = sum(map(self.rows.weight, drawn))
        for some in self._micro_batches(drawn):
            batch = self.rows.batch(some).to(self.device)
            with int8_products() if self.recipe.products == "int8" else nullcontext():
                loss: Tensor = self.wrapped(batch).sum() / learned
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        norm = self.accelerator.clip_grad_norm_(trained(self.model).values(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model, self.step)
        self.step += 1
        mean: Tensor = self.accelerator.reduce(total, "sum")
        # One transfer: on a GPU each waits for the device.
        loss_read, norm_read = torch.stack([mean, norm.to(mean)]).tolist()
        # Mixed precision leaves out a step whose scaled gradient overflows.
        if not (isfinite(norm_read) or self.accelerator.optimizer_step_was_skipped):
            raise self._diverged(f"a gradient of norm {norm_read}")
        if not isfinite(loss_read):
            raise self._diverged(f"a loss of {loss_read}")
        return float(loss_read)

    def check(self, model: Adapted) -> None:
        """Refuse a model whose losses are not finite, before it is kept.

        Raises:
            RuntimeError: if one of the first rows' losses is not finite.
        """
        first = list(range(min(self.recipe.micro_batch, len(self.rows))))
        some = self.rows.batch(first).to(self.device)
        with torch.no_grad():
            loss = float(model(some).sum())
        if not isfinite(loss):
            raise self._diverged(f"a loss of {loss} with what it learned")

    def _diverged(self, got: str) -> RuntimeError:
        return RuntimeError(
            f"Training step {self.step} must have a finite loss and gradient, got {got}. What "
            f"{self.folder.path} keeps is of earlier steps. Begin another run with a lower "
            "`learning_rate`, `lora_learning_rate` or `clip`, and check the pool for values that "
            "are not finite or out of range."
        )

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "step": self.step,
            "trained": {n: p.detach() for n, p in trained(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.values,
            "best": self.folder.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            ValueError: if it is not of such a run.
        """
        try:
            for part, own in (("trained", trained(self.model)), ("average", self.average.values)):
                if state[part].keys() != own.keys():
                    raise ValueError(f"`{part}` has other names")
            if state["schedule"].keys() != self.schedule.state_dict().keys():
                raise ValueError("`schedule` has other names")
            self.step = state["step"]
            self.model.load_state_dict(state["trained"], strict=False)
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.average.values = {n: v.to(self.device) for n, v in state["average"].items()}
            self.folder.best = state["best"]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.folder.state}: must hold the state of this run, but {error}. Begin another "
                "run: choose another `--out`."
            ) from error


def _validate(
    trainer: _Trainer, validate: Callable[[Any], dict[str, float]] | None, metric: str, sign: int
) -> None:
    """Validate the (averaged) model, keep it as `last`, and as `best` if it is."""
    if not trainer.accelerator.is_main_process:
        return
    model, folder = trainer.model, trainer.folder
    with trainer.average.applied(model):
        model.eval()
        trainer.check(model)
        values = _figures(validate(model), metric) if validate else {}
        score = values[metric] if metric else sign * float(trainer.step)
        model.about |= {"step": trainer.step, **{f"validation {k}": v for k, v in values.items()}}
        model.save_pretrained(folder.path / "last")
        if folder.best is None or sign * (score - folder.best) > 0:
            folder.best = score
            model.save_pretrained(folder.path / "best")
    folder.log({"step": trainer.step, **values})
    folder.save_state(trainer.state())


def _figures(found: Mapping[str, Any], metric: str) -> dict[str, float]:
    """What `validate` gave, as numbers, without those that are not finite.

    Raises:
        ValueError: if the deciding one is missing or not finite.
    """
    values = {name: float(value) for name, value in found.items()}
    if metric and metric not in values:
        known = ", ".join(values) or "none, as `validate` gives nothing"
        raise ValueError(f"`metric` must be one of {known}, got {metric!r}.")
    if metric and not isfinite(values[metric]):
        raise ValueError(f"`validate` must give a finite {metric}, got {values[metric]}.")
    return {name: value for name, value in values.items() if isfinite(value)}


def fit(
    model: AdaptedModel,
    episodes: Iterable[Episode],
    *,
    recipe: Recipe,
    out: str | Path,
    validate: Callable[[AdaptedModel], dict[str, float]] | None = None,
    metric: str = "",
    maximise: bool = True,
    finish: Callable[[AdaptedModel], None] | None = None,
    resume: bool = False,
    inputs: Mapping[str, Any] | None = None,
    device: str | torch.device = "auto",
) -> AdaptedModel:
    """Adapt `model` to a pool, and return the checkpoint that validated best.

    Writes to `out`: `settings.json`, `log.jsonl` (a line per `log_every` steps and per validation),
    `state.safetensors` (to resume from), and the checkpoints `last` and `best`.

    Args:
        model: from `AdaptedModel(...)`; trained in place.
        episodes: a pool, or any episodes.
        recipe: the settings of the run.
        out: folder of the run; must be new or empty unless `resume`.
        validate: figures of the model in eval mode, best by roll-outs; without it the last
            checkpoint is the best.
        metric: which of those figures decides.
        maximise: whether more of it is better.
        finish: changes the best checkpoint before it is kept for good, such as its target return.
        resume: continue a run that was cut off, or give what a finished one kept; on CPU, with the
            same number of processes and threads, its weights come out bit for bit as in an
            unbroken run.
        inputs: what else the run depends on, such as where it validates, as JSON can hold it; kept
            in `settings.json`, with the pool's own digest.
        device: where it learns, and where the model that is returned lies; see `resolve_device`.
            Of a run that `torchrun` or `accelerate launch` started, these say.

    Raises:
        ModuleNotFoundError: if the recipe asks for TensorBoard and it is not installed.
        RuntimeError: if a loss or gradient is not finite; earlier checkpoints stay.
        NotADirectoryError: if `out` is a file.
        ValueError: for an empty pool, a folder that holds another run or something else, a
            part with the name of another, a `metric` that `validate` does not give, a recipe, a
            model, a pool or `inputs` that differ from those of the run that is resumed, or a
            `device` that is not here.
    """
    known = list(episodes)
    rows = SegmentedEpisodes(known, size=model.sizes, segment=model.segment, window=model.window)
    sign = 1 if maximise else -1
    about = {"pool": f"{len(known)} episodes {digest(known)[:16]}", **(inputs or {})}
    return _fit(
        model, rows, recipe, Path(out), validate, metric, sign, finish, resume, about, device
    )


def fit_supervised(
    model: Predictor,
    examples: Examples,
    *,
    recipe: Recipe,
    out: str | Path,
    validate: Callable[[Predictor], dict[str, float]] | None = None,
    metric: str = "",
    maximise: bool = False,
    resume: bool = False,
    inputs: Mapping[str, Any] | None = None,
    device: str | torch.device = "auto",
) -> Predictor:
    """Adapt `model` to examples, and return the checkpoint that validated best.

    The same loop as `fit`, with the same arguments, folder and errors; a batch is so many examples.
    """
    sign = 1 if maximise else -1
    about = {"examples": len(examples), **(inputs or {})}
    return _fit(
        model, examples, recipe, Path(out), validate, metric, sign, None, resume, about, device
    )


def _fit(
    model: M,
    rows: Rows,
    recipe: Recipe,
    out: Path,
    validate: Callable[[M], dict[str, float]] | None,
    metric: str,
    sign: int,
    finish: Callable[[M], None] | None,
    resume: bool,
    inputs: Mapping[str, Any],
    device: str | torch.device,
) -> M:
    describe(model)  # what cannot be saved is told before it has learned
    if metric and validate is None:
        raise ValueError(f"`metric` {metric!r} needs `validate`, which gives it.")
    accelerator = Accelerator(device_placement=False)
    where = learning_device(device, accelerator)
    check_passes(model, recipe, where)
    settings = {
        "recipe": asdict(recipe),
        "spec": asdict(model.spec),
        "model": model_facts(model),
        "inputs": inputs,
    }
    with RunFolder(
        out,
        settings,
        resume=resume,
        tensorboard=recipe.tensorboard,
        writes=accelerator.is_main_process,
    ) as folder:
        accelerator.wait_for_everyone()
        if finished := folder.finished:
            _log.warning("The run in %s has reached its end already.", out)
        with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
            trainer = _Trainer(model, rows, recipe, folder, accelerator, where)
            if (state := folder.load_state()) is not None:
                trainer.restore(state)
            again = recomputing(model) if recipe.gradient_checkpointing else nullcontext()
            with again:
                _loop(trainer, validate, metric, sign)
        own = (type(model.encoder), type(model.head))
        best = type(model).from_pretrained(
            out / "best", device=where, parts=own, trust_backbone=True
        )
        if not finished and finish is not None and accelerator.is_main_process:
            finish(best)
            best.save_pretrained(out / "best")
        accelerator.wait_for_everyone()
        folder.finish()
    return best


def _loop(
    trainer: _Trainer, validate: Callable[[Any], dict[str, float]] | None, metric: str, sign: int
) -> None:
    recipe, folder = trainer.recipe, trainer.folder
    start, total = trainer.step, recipe.steps
    shown = None if trainer.accelerator.is_main_process else True
    bar = tqdm.tqdm(total=total, initial=start, unit="step", desc="adapt", disable=shown)
    losses: list[float] = []
    begun = time.monotonic()
    while trainer.step < recipe.steps:
        losses.append(trainer.learn())
        bar.update()
        if trainer.step % recipe.log_every == 0:
            mean = float(np.mean(losses))
            losses.clear()
            seconds = round(time.monotonic() - begun, 3)
            folder.log({"step": trainer.step, "loss": mean, "seconds": seconds})
            bar.set_postfix(loss=f"{mean:.3f}")
        if trainer.step % recipe.validate_every == 0 or trainer.step == recipe.steps:
            _validate(trainer, validate, metric, sign)
            if metric and folder.best is not None:
                bar.set_description(f"adapt, best {metric} {folder.best:.3f}")
            trainer.accelerator.wait_for_everyone()
    bar.close()
