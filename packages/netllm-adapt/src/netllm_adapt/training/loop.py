"""Adapt: the one training loop of adapted models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
import tqdm
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from netllm_adapt.batches import Examples
from netllm_adapt.checkpoint.save_and_load import describe
from netllm_adapt.device import learning_device, switched
from netllm_adapt.episodes import Episode
from netllm_adapt.llama.packed_weights import forget_lean_weights
from netllm_adapt.lora import check_int8, int8_products
from netllm_adapt.lora.int8_speed import warn_if_slower
from netllm_adapt.model.base import Adapted
from netllm_adapt.training.gradient_checkpointing import check_recomputing, recomputing
from netllm_adapt.training.loading import SWITCH as LOAD_AHEAD
from netllm_adapt.training.loading import loaded
from netllm_adapt.training.order import Order, Rows
from netllm_adapt.training.processes import (
    add_up,
    joined_processes,
    meet,
    own_share,
    stream_seed,
)
from netllm_adapt.training.recipe import Recipe
from netllm_adapt.training.run_folder import RunFolder, open_run
from netllm_adapt.training.sharding import check_shardable, shard, whole
from netllm_adapt.training.trackers import Tracker, check_tracker
from netllm_adapt.training.trainable_parameters import Average, model_facts, trained

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=Adapted)


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


def _gradients(model: Adapted) -> list[Tensor]:
    """Of every trained parameter; zeros where the loss does not depend on it."""
    gradients = []
    for parameter in trained(model).values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    return gradients


@dataclass(frozen=True)
class _Choice:
    """Which of a run's checkpoints is the best."""

    validate: Callable[[Any], dict[str, float]] | None
    metric: str
    sign: int
    """1 if more of the metric is better, else -1."""

    def __post_init__(self) -> None:
        if self.metric and self.validate is None:
            raise ValueError(f"`metric` {self.metric!r} needs `validate`, which gives it.")

    def figures(self, model: Adapted) -> dict[str, float]:
        """What `validate` gives, as numbers, without those that are not finite."""
        given = {} if self.validate is None else self.validate(model)
        values, metric = {name: float(value) for name, value in given.items()}, self.metric
        if metric and metric not in values:
            known = ", ".join(values) or "none, as `validate` gives nothing"
            raise ValueError(f"`metric` must be one of {known}, got {metric!r}.")
        if metric and not isfinite(values[metric]):
            raise ValueError(f"`validate` must give a finite {metric}, got {values[metric]}.")
        return {name: value for name, value in values.items() if isfinite(value)}


@dataclass
class _Trainer:
    """One run: the model with its optimiser, schedule, average and folder."""

    model: Adapted
    rows: Rows
    recipe: Recipe
    folder: RunFolder
    accelerator: Accelerator
    device: torch.device
    choice: _Choice
    shard: bool = False
    """Whether each process keeps a part of what is frozen alone."""
    step: int = 0
    best: float | None = None
    batch: Any = None
    """What was learned from last, one micro batch."""

    def __post_init__(self) -> None:
        recipe, processes = self.recipe, self.accelerator.num_processes
        if recipe.batch % processes:
            raise ValueError(
                f"Recipe: `batch` must be a multiple of the {processes} processes, "
                f"got {recipe.batch}."
            )
        self.model.to(self.device)
        if self.shard:
            shard(self.model.backbone)
        optimizer = _optimizer(self.model, recipe)
        self.schedule: Any = get_cosine_schedule_with_warmup(
            optimizer, min(recipe.warmup, recipe.steps), recipe.steps
        )
        self.accelerator.prepare_model(self.model, evaluation_mode=True)  # adds mixed precision
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.average = Average(self.model, recipe.average)
        self.order = Order(self.rows, batch=recipe.batch, seed=recipe.seed)

    def run(self) -> None:
        """Learn, from the beginning or from where the run was cut off."""
        if (state := self.folder.load_state()) is not None:
            self.restore(state)
        again = self.recipe.gradient_checkpointing
        with recomputing(self.model.backbone) if again else nullcontext():
            self.train()

    def train(self) -> None:
        """Learn until the recipe's last step, with log and validations."""
        recipe, folder = self.recipe, self.folder
        bar = tqdm.tqdm(
            total=recipe.steps,
            initial=self.step,
            unit="step",
            desc="adapt",
            disable=None if self.accelerator.is_main_process else True,
        )
        losses: list[float] = []
        begun = time.monotonic()
        batches = self._batches()
        while self.step < recipe.steps:
            losses.append(self._learn(batches))
            bar.update()
            if self.step % recipe.log_every == 0:
                mean = float(np.mean(losses))
                losses.clear()
                seconds = round(time.monotonic() - begun, 3)
                folder.log({"step": self.step, "loss": mean, "seconds": seconds})
                bar.set_postfix(loss=f"{mean:.3f}")
            if self.step % recipe.validate_every == 0 or self.step == recipe.steps:
                self._validate()
                if self.choice.metric and self.best is not None:
                    bar.set_description(f"adapt, best {self.choice.metric} {self.best:.3f}")
                meet()
        bar.close()

    def _micro_batches(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        mine = own_share(rows)
        for first in range(0, len(mine), self.recipe.micro_batch):
            yield mine[first : first + self.recipe.micro_batch]

    def _batches(self) -> Iterator[tuple[Any, int]]:
        """The micro batches of all steps to come, on the device, with what their steps teach."""

        def load(one: tuple[Sequence[int], int]) -> tuple[Any, int]:
            return self.rows.batch(one[0]).to(self.device), one[1]

        def wanted() -> Iterator[tuple[Sequence[int], int]]:
            for drawn in map(self.order.rows, range(self.step, self.recipe.steps)):
                learned = sum(map(self.rows.weight, drawn))
                yield from ((chosen, learned) for chosen in self._micro_batches(drawn))

        ahead = switched(LOAD_AHEAD, default=self.device.type == "cuda")
        return loaded(load, wanted(), ahead=ahead)

    def _learn(self, batches: Iterator[tuple[Any, int]]) -> float:
        """One optimiser step; the mean loss of its decisions."""
        recipe = self.recipe
        torch.manual_seed(stream_seed(recipe.seed, self.step, self.accelerator.process_index))
        self.model.train()
        total = torch.zeros((), device=self.device)
        parts = len([*self._micro_batches(range(recipe.batch))])
        for batch, learned in islice(batches, parts):
            with int8_products() if recipe.products == "int8" else nullcontext():
                loss: Tensor = self.model(batch).sum() / learned
                self.accelerator.backward(loss)
            total += loss.detach()
            self.batch = batch
        if self.accelerator.num_processes > 1:
            add_up([*_gradients(self.model), total])
        norm = self.accelerator.clip_grad_norm_(trained(self.model).values(), recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model, self.step)
        self.step += 1
        # One transfer: on a GPU each waits for the device.
        loss_read, norm_read = torch.stack([total, norm.to(total)]).tolist()
        # Mixed precision leaves out a step whose scaled gradient overflows.
        if not self.accelerator.optimizer_step_was_skipped:
            self._check_finite(norm_read, "a gradient of norm")
        self._check_finite(loss_read, "a loss of")
        return float(loss_read)

    def _check_finite(self, value: float, what: str) -> None:
        if not isfinite(value):
            raise RuntimeError(
                f"Training step {self.step} must have a finite loss and gradient, got {what} "
                f"{value}. What {self.folder.path} keeps is of earlier steps. Begin another run "
                "with a lower `learning_rate`, `lora_learning_rate` or `clip`, and check the pool "
                "for values that are not finite or out of range."
            )

    def _validate(self) -> None:
        """Validate the (averaged) model, keep it as `last`, and as `best` if it is."""
        model, folder, choice = self.model, self.folder, self.choice
        main = self.accelerator.is_main_process
        with self.average.applied(model):
            model.eval()
            with whole(model.backbone):
                with torch.no_grad():
                    loss = float(model(self.batch).sum())
                self._check_finite(loss, "with what it learned a loss of")
                figures = choice.figures(model)
            forget_lean_weights(model.backbone)  # the next step changes what was read
            score = figures[choice.metric] if choice.metric else choice.sign * float(self.step)
            model.about |= {"step": self.step} | {f"validation {k}": v for k, v in figures.items()}
            better = self.best is None or choice.sign * (score - self.best) > 0
            self.best = score if better else self.best
            if main:
                model.save_pretrained(folder.path / "last")
            if main and better:
                model.save_pretrained(folder.path / "best")
        folder.log({"step": self.step, **figures})
        folder.save_state(self.state())

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "step": self.step,
            "trained": {n: p.detach() for n, p in trained(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.values,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            ValueError: if it is not of such a run.
        """
        try:
            own = self.state()
            for part in ("trained", "average", "schedule"):
                if state[part].keys() != own[part].keys():
                    raise ValueError(f"`{part}` has other names")
            self.step = state["step"]
            self.model.load_state_dict(state["trained"], strict=False)
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.average.values = {n: v.to(self.device) for n, v in state["average"].items()}
            self.best = state["best"]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.folder.state}: must hold the state of this run, but {error}. Begin another "
                "run: choose another `--out`."
            ) from error


def fit(
    model: M,
    experience: Iterable[Episode] | Examples,
    *,
    recipe: Recipe,
    out: str | Path,
    validate: Callable[[M], dict[str, float]] | None = None,
    metric: str = "",
    maximise: bool = True,
    finish: Callable[[M], None] | None = None,
    resume: bool = False,
    inputs: Mapping[str, Any] | None = None,
    device: str | torch.device = "auto",
    shard: bool = False,
    tracker: Tracker | None = None,
) -> M:
    """Adapt `model` to a pool or to examples, and return the checkpoint that validated best.

    Writes to `out`: `settings.json`, `log.jsonl` (a line per `log_every` steps and per validation),
    `state.safetensors` (to resume from), and the checkpoints `last` and `best`.

    Args:
        model: trained in place.
        experience: of an `AdaptedModel` a pool, or any episodes; of a `Predictor` its `Examples`,
            of which a batch is so many.
        recipe: the settings of the run.
        out: folder of the run; must be new or empty unless `resume`.
        validate: figures of the model in eval mode, best by roll-outs; without it the last
            checkpoint is the best. Of several processes each calls it, and `finish`: they may share
            the work, see `netllm_adapt.training.processes`; the first one's figures are kept.
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
        shard: of several processes each keeps a part of every frozen weight while they learn;
            validations need it whole.
        tracker: what also gets the log, to draw its curves; see `netllm_adapt.training.trackers`.
            A run that is resumed may have another: it gets the whole log.

    Raises:
        ModuleNotFoundError: if the tracker is not installed.
        RuntimeError: if a loss or gradient is not finite; earlier checkpoints stay.
        FileExistsError: if `out` is a file, or holds something else than a run.
        ValueError: for an empty pool, a folder that holds another run, a
            part with the name of another, a `metric` that `validate` does not give, a recipe, a
            model, a pool or `inputs` that differ from those of the run that is resumed, a `device`
            that is not here, or a model that one process or its kind does not let `shard`.
    """
    check_tracker(tracker)
    rows: Rows = model.rows(experience)
    describe(model)  # what cannot be saved is told before it has learned
    choice = _Choice(validate, metric, 1 if maximise else -1)
    accelerator, out = joined_processes(device), Path(out)
    where, main = learning_device(device, accelerator), accelerator.is_main_process
    _check_passes(model, recipe, where, shard=shard)
    settings = _settings(model, recipe, {**rows.facts(), **(inputs or {})})
    with open_run(out, settings, resume=resume, tracker=tracker, writes=main) as folder:
        meet()
        if finished := folder.finished:
            _log.warning("The run in %s has reached its end already.", out)
        with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
            _Trainer(model, rows, recipe, folder, accelerator, where, choice, shard).run()
        best = _read_again(model, out / "best", where, share=not shard)
        if not finished and finish is not None:
            finish(best)
            if main:
                best.save_pretrained(out / "best")
        meet()
        folder.finish()
    return best


def _read_again(model: M, folder: Path, device: torch.device, *, share: bool) -> M:
    """The checkpoint of a model, by the classes of its parts; it may share the frozen weights."""
    how: dict[str, Any] = {"device": device, "trust_backbone": True}
    how |= {"parts": (type(model.encoder), type(model.head))}
    how |= {"frozen": model.backbone if share else None}
    return type(model).from_pretrained(folder, **how)


def _settings(model: Adapted, recipe: Recipe, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run must agree with."""
    return {
        "recipe": asdict(recipe),
        "spec": msgspec.structs.asdict(model.spec),
        "model": model_facts(model),
        "inputs": inputs,
    }


def _check_passes(model: Adapted, recipe: Recipe, device: torch.device, *, shard: bool) -> None:
    """Raise unless the model can learn in the way that is asked for."""
    if shard:
        check_shardable(model.backbone, model.spec.name)
    if recipe.products == "int8":
        layers = [module for module in model.backbone.modules() if isinstance(module, nn.Linear)]
        frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
        if not frozen:
            raise ValueError(
                f"Recipe: `products` must be None for {model.spec.name!r}: no linear layer is "
                "frozen."
            )
        check_int8(device.type)
        warn_if_slower(frozen[0].dtype)
    if recipe.gradient_checkpointing:
        check_recomputing(model.backbone, model.spec.name)
