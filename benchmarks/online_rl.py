"""Reinforcement learning with and without interaction: what one budget of CPU time buys.

    python benchmarks/online_rl.py [--quick] [--minutes N] [--rates FACTOR ...] [--episodes N]
        [--data DIR] [--json FILE]
    python benchmarks/online_rl.py --documents FILE

Bitrate streaming, setting `default`, the first blocks of the backbone; every way begins with the
same model and has the same optimiser, schedule and CPU time on one core. `pool` imitates episodes
that the teacher, which is trained already, has collected once. `online` has no teacher: the model
plays training sessions itself, and each round of them is one step of policy gradient, with every
factor on the recipe's learning rates in `--rates`. Both play in the shipped recipe's worlds.
Validation, greedy roll-outs, takes none of the time. One seed each. `--documents` writes the table
of an earlier run's JSON into docs/results.md.

The gradient is that of REINFORCE (Williams, Machine Learning, 1992). Each session is played several
times, and the mean return of its plays at a chunk is the baseline there, since most of what a
session earns is its link's doing."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import netllm
import numpy as np
import torch
from _documents import put
from _machine import machine
from netllm import registry
from netllm.task import PoolTask
from netllm.task.build_model import build_model
from netllm.verbs.validation import VALIDATION_SEED, figures, validator
from netllm_adapt import AdaptedModel, Episode, Policy, Recipe, return_to_go
from netllm_adapt.batches import Batch
from netllm_adapt.training.order import Order
from netllm_adapt.training.trainable_parameters import Average, trained
from torch import Tensor

WORLDS = {"alter": 0.65, "worlds": "wide"}
COLLECT: dict[str, Any] = {
    "policy": ["ppo-wide", "ppo-wide-sampled"],
    "relabel": "ppo-wide",
    "epsilon": 0.08,
    "set": WORLDS,
}
SESSIONS, PLAYS = 4, 4
"""Training sessions of a round of `online`, and how often each is played."""
ALONE = {"label": None, "soft": False, "epsilon": 0.0}
"""Nobody labels, and nothing is done at random."""
DISCOUNT, ENTROPY = 0.95, 0.05
WARMUP = 0.05
"""Share of the budget in which the learning rates rise; then they fall with a cosine."""
POINTS = 8
"""Validations after the first."""
SCALE = ("bba", "ppo-wide")


class Learner:
    """A model that learns until its CPU time is spent, and where the time went."""

    def __init__(
        self,
        model: AdaptedModel,
        recipe: Recipe,
        budget_s: float,
        validate: Callable[[AdaptedModel], dict[str, float]],
    ) -> None:
        self.model, self.recipe, self.budget_s, self.validate = model, recipe, budget_s, validate
        self.spent_s = {"collect": 0.0, "update": 0.0}
        parts = trained(model)
        lora = [p for name, p in parts.items() if name.startswith("backbone.")]
        rest = [p for name, p in parts.items() if not name.startswith("backbone.")]
        groups = [
            {"params": rest, "lr": recipe.learning_rate},
            {"params": lora, "lr": recipe.lora_learning_rate},
        ]
        decay = recipe.weight_decay
        self.optimizer = torch.optim.AdamW(groups, weight_decay=decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: self.factor())
        self.average = Average(model, recipe.average)
        self.episodes = self.decisions = self.updates = 0
        self.curve: list[tuple[float, float]] = []
        self.check()

    @property
    def share(self) -> float:
        """How much of the budget is spent; 1 at the end."""
        return min(1.0, sum(self.spent_s.values()) / self.budget_s)

    def factor(self) -> float:
        """What the schedule multiplies the learning rates with; never 0, so that all learn."""
        warm = (self.share + 0.1 * WARMUP) / WARMUP
        return min(warm, 0.5 + 0.5 * math.cos(math.pi * self.share))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the CPU time of a block as collecting or updating."""
        begun = time.process_time()
        yield
        self.spent_s[what] += time.process_time() - begun

    def collected(self, episodes: Sequence[Episode]) -> None:
        self.episodes += len(episodes)
        self.decisions += sum(len(one.rewards) for one in episodes)

    def update(self, loss_of: Callable[[], Tensor]) -> None:
        """One step of the optimiser, and a validation when it is time."""
        with self.timed("update"):
            loss_of().backward()
            torch.nn.utils.clip_grad_norm_(trained(self.model).values(), self.recipe.clip)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
            self.average.update(self.model, self.updates)
        self.updates += 1
        while len(self.curve) <= POINTS * self.share:
            self.check()

    def check(self) -> None:
        with self.average.applied(self.model):
            qoe = self.validate(self.model)["qoe"]
        self.curve.append((sum(self.spent_s.values()), qoe))

    def found(self) -> dict[str, Any]:
        spent = self.spent_s
        return {
            "collect_s": spent["collect"],
            "update_s": spent["update"],
            "share_collecting": spent["collect"] / sum(spent.values()),
            "episodes": self.episodes,
            "decisions": self.decisions,
            "updates": self.updates,
            "curve": self.curve,
        }


def online(learner: Learner, task: PoolTask, place: Any) -> None:
    """Play a round, learn from it, play anew."""
    model, number = learner.model, 0
    while learner.share < 1:
        with learner.timed("collect"):
            drawn = task.episodes(place, "train", count=SESSIONS, seed=number)
            plays = [session for session in drawn for _ in range(PLAYS)]
            how: Any = {"name": "model", "seed": number, **ALONE}
            episodes = [*task.record(Policy(model, greedy=False), place, plays, **how)]
        learner.collected(episodes)
        learner.update(partial(policy_loss, model, episodes))
        number += 1


def policy_loss(model: AdaptedModel, episodes: Sequence[Episode]) -> Tensor:
    """What falls as good actions become likelier, with a bonus for entropy."""
    rows = model.rows(episodes)
    assert len(rows) == len(episodes)  # each fits into one segment
    batch: Batch = rows.batch(range(len(rows)))
    odds = model.head.distribution(model.hidden(batch), batch.observations).log_softmax(-1)
    taken = odds.gather(-1, batch.actions[..., None])[..., 0]
    entropy = -(odds.exp() * odds).sum(-1)
    return -(taken * advantages(episodes) + ENTROPY * entropy)[batch.learn].mean()


def advantages(episodes: Sequence[Episode]) -> Tensor:
    """How much better each action turned out than the other plays of its session at that chunk.

    Divided by the root of the session's spread, as `ppo-wide` does: without, sessions that stall
    drown the others; by the whole spread, those where nothing is at stake count as much.
    """
    rewards = np.stack([one.rewards for one in episodes])
    returns = return_to_go(rewards, discount=DISCOUNT).reshape(SESSIONS, PLAYS, -1)
    better = returns - returns.mean(axis=1, keepdims=True)
    spread = better.std(axis=(1, 2), keepdims=True)
    balanced = (better / np.sqrt(spread + 0.01)).reshape(rewards.shape)
    return torch.from_numpy(balanced / balanced.std())


def pool(learner: Learner, episodes: int, data: Path | None) -> None:
    """Collect once, then learn the teacher's answers, as `netllm adapt` does."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pool"
        with learner.timed("collect"):
            kept = [*netllm.rl_collect("abr", episodes=episodes, data=data, out=out, **COLLECT)]
    learner.collected(kept)
    with learner.timed("update"):
        rows = learner.model.rows(kept)
        order = Order(rows, batch=learner.recipe.batch, seed=learner.recipe.seed)

    def loss() -> Tensor:
        batch: Batch = rows.batch(order.rows(learner.updates))
        lost: Tensor = learner.model(batch).sum() / batch.learn.sum()
        return lost

    while learner.share < 1:
        learner.update(loss)


def run(args: argparse.Namespace, task: PoolTask, rate: float | None) -> dict[str, Any]:
    """One way of learning: `online` with a factor on the learning rates, or else `pool`."""
    setting = task.setting("default", data=args.data)
    recipe = replace(task.recipe(args.backbone), layers=args.layers, returns=False)
    model: Any = build_model(task, setting, args.backbone, recipe)
    own = scaled(recipe, rate or 1.0)
    learner = Learner(model, own, 60 * args.minutes, validator(task, setting, args.sessions))
    if rate is None:
        pool(learner, args.episodes, args.data)
    else:
        online(learner, task, task.setting("default", data=args.data, **WORLDS))
    return learner.found()


def scaled(recipe: Recipe, factor: float) -> Recipe:
    names = ("learning_rate", "lora_learning_rate")
    return replace(recipe, **{name: factor * getattr(recipe, name) for name in names})


def policies(args: argparse.Namespace, task: PoolTask) -> dict[str, float]:
    """What a rule and the teacher earn in the validation sessions."""
    setting = task.setting("default", data=args.data)
    episodes = task.episodes(setting, "valid", count=args.sessions, seed=VALIDATION_SEED)
    found = {}
    for name in SCALE:
        policy = registry.policy("abr", name, setting)
        found[name] = figures(task, policy, setting, episodes)["qoe"]
    return found


def table(document: Mapping[str, Any]) -> str:
    """The ways side by side, for the document."""
    ways, minutes = document["ways"], document["arguments"]["minutes"]

    def line(name: str, cells: list[str]) -> str:
        return f"| {name} | {' | '.join(cells)} |"

    lines = [
        line("", [f"`{name}`" for name in ways]),
        "|---|" + "---:|" * len(ways),
        line("collecting", [f"{way['share_collecting']:.0%}" for way in ways.values()]),
        line("episodes", [f"{way['episodes']:,}" for way in ways.values()]),
        line("updates", [f"{way['updates']:,}" for way in ways.values()]),
    ]
    for point in range(POINTS + 1):
        cells = [f"{way['curve'][point][1]:.3f}" for way in ways.values()]
        lines.append(line(f"QoE after {minutes * point / POINTS:g} min", cells))
    scale = ", ".join(f"`{name}` {qoe:.3f}" for name, qoe in document["policies"].items())
    sessions = document["arguments"]["sessions"]
    lines += [
        "",
        f"On the same {sessions} sessions: {scale}. One core, {document['machine']['cpu']}.",
    ]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny backbone, some seconds")
    parser.add_argument("--minutes", type=float, default=8.0, help="CPU time of each way")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 1.0], help="of online")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=512, help="of the pool")
    parser.add_argument("--sessions", type=int, default=60, help="of a validation")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.quick:
        args.backbone, args.minutes, args.episodes, args.sessions = "tiny-random", 0.05, 16, 4
    return args


def main() -> None:
    args = arguments()
    if args.documents:
        put("docs/results.md", "online", table(json.loads(args.documents.read_text())))
        print(f"docs/results.md now holds the table of {args.documents}")
        return
    torch.set_num_threads(1)
    task: Any = registry.task("abr")
    names = ("minutes", "rates", "backbone", "layers", "episodes", "sessions")
    document = {
        "machine": machine(),
        "arguments": {name: getattr(args, name) for name in names},
        "policies": policies(args, task),
    }
    document["ways"] = {"pool": run(args, task, None)}
    for rate in args.rates:
        document["ways"][f"online, rates × {rate:g}"] = run(args, task, rate)
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
