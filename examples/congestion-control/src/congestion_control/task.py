"""The task: environment, encoder, head, rivals and metric, as `netllm.task.Task` explains."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from netllm.task import Metric, Outcome, Policy

from congestion_control.link import FACTORS, Link, Senders, Setting, links

if TYPE_CHECKING:
    from netllm_adapt import AdaptedModel, Episode, Pool, Recipe
    from netllm_encoders import Step
    from netllm_heads import Categorical

SETTINGS = {
    "default": Setting("default"),
    "unseen-swing": Setting("unseen-swing", swing=0.4),
}


class Congestion:
    """Congestion control: the rate of a sender on a link that it shares with nobody."""

    name = "congestion"
    metrics = (
        Metric("utility", "utility"),
        Metric("lost", "share lost", higher_is_better=False),
    )
    rivals = ("aimd", "delay")
    bounds: frozenset[str] = frozenset()
    published = frozenset({"aimd"})
    trainers: Mapping[str, str] = {}
    draws: Mapping[str, Any] = {}
    supervised = False
    validation = 32
    chooses = True
    chunk = 128
    shard = 256

    def settings(self) -> Mapping[str, str]:
        """The settings by name."""
        return {
            "default": "links whose capacity changes by 20 % from step to step",
            "unseen-swing": "by 40 %",
        }

    def setting(self, name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
        """One setting; `data` is of no use, as there are no recordings."""
        if name not in SETTINGS:
            raise ValueError(f"Unknown setting {name!r}. Known: {', '.join(SETTINGS)}.")
        return replace(SETTINGS[name], **overrides)

    def seeds(self, setting: Setting) -> Sequence[int]:
        """Of `test`."""
        return (0,)

    def by_seed(self, setting: Setting, part: str, seeds: Sequence[int]) -> None:
        """None: every seed draws many episodes."""

    def episodes(
        self, setting: Setting, part: str, *, count: int | None, seed: int
    ) -> Sequence[Link]:
        """Links, of which every id must differ."""
        return links(part, count or 128, seed)

    def subsets(self, setting: Setting, episodes: Sequence[Link]) -> Mapping[str, frozenset[str]]:
        """No part of the test set is reported on its own."""
        return {}

    def rollout(
        self, policy: Policy, setting: Setting, episodes: Sequence[Link], *, seed: int
    ) -> Outcome:
        """Per episode a row with its `id` and every metric."""
        begun = time.perf_counter()
        lost, rewards = [], []
        senders = Senders(setting, episodes)
        policy.reset(seed)
        for step in range(setting.steps):
            rewards.append(senders.step(policy.act(senders.observation()), step))
            lost.append(senders.observation()["lost"])
        figures = {"utility": np.mean(rewards, axis=0), "lost": np.mean(lost, axis=0)}
        rows = [
            {"id": link.id, **{name: float(values[row]) for name, values in figures.items()}}
            for row, link in enumerate(episodes)
        ]
        return Outcome(rows, np.size(rewards), time.perf_counter() - begun)

    def record(
        self,
        policy: Policy,
        setting: Setting,
        episodes: Sequence[Link],
        *,
        name: str,
        seed: int,
        label: Policy | None,
        soft: bool,
        epsilon: float,
    ) -> Iterator[Episode]:
        """What happened, step by step; `label` says what should have been done."""
        from netllm_adapt import Episode

        senders, rng = Senders(setting, episodes), np.random.default_rng(seed)
        seen, actions, rewards, labels = [], [], [], []
        for one in (policy, label):
            if one is not None:
                one.reset(seed)
        for step in range(setting.steps):
            seen.append(senders.observation())
            chosen = np.asarray(policy.act(seen[-1]))
            if label is not None:
                labels.append(np.asarray(label.act(seen[-1])))
            dice = rng.integers(len(FACTORS), size=chosen.shape)
            actions.append(np.where(rng.random(chosen.shape) < epsilon, dice, chosen))
            rewards.append(senders.step(actions[-1], step))
        for row, link in enumerate(episodes):
            yield Episode(
                id=link.id,
                policy=name,
                seed=seed,
                observations={
                    field: np.stack([at_step[field][row] for at_step in seen]) for field in seen[0]
                },
                actions=np.stack(actions)[:, row],
                rewards=np.stack(rewards)[:, row].astype(np.float32),
                labels=np.stack(labels)[:, row] if labels else None,
            )

    def experience(self, pool: Path | None, setting: Setting, recipe: Recipe) -> Pool:
        """The pool."""
        from netllm_adapt import Pool

        if pool is None:
            raise ValueError(
                "Collect a pool first, netllm rl-collect congestion --policy delay --out POOL, "
                "then pass --pool POOL."
            )
        return Pool(pool)

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> Step:
        """A token per field, and those of return and action."""
        from netllm_encoders import Step

        return Step(
            width=width,
            fields={
                "rate_mbps": {"kind": "scalar", "scale": setting.mean_mbps},
                "wait": {"kind": "scalar"},
                "lost": {"kind": "scalar"},
            },
            actions=len(FACTORS),
            return_scale=float(setting.steps),
        )

    def head(self, setting: Setting, *, width: int) -> Categorical:
        """One of the factors."""
        from netllm_heads import Categorical

        return Categorical(width=width, answers=len(FACTORS))

    def assemble(self, recipe: Recipe, **parts: Any) -> AdaptedModel:
        """A model that decides step by step."""
        from netllm_adapt import AdaptedModel

        return AdaptedModel(**parts, window=recipe.window, segment=recipe.segment)

    def policy(self, model: AdaptedModel, setting: Setting) -> Policy:
        """The model as a policy; its observations need the field `reward`."""
        from netllm_adapt import Policy

        return Policy(model)

    def recipe(self, backbone: str) -> Recipe:
        """What it is adapted with unless told otherwise."""
        from netllm_adapt import Recipe

        return replace(Recipe(), steps=200, validate_every=50)

    def target_returns(self, experience: Pool) -> Sequence[float]:
        """What good episodes of the pool reached, and their best."""
        returns = np.array([episode.rewards.sum() for episode in experience])
        return [float(value) for value in np.quantile(returns, [0.9, 1.0])]

    def fit(self, model: AdaptedModel, experience: Pool, **run: Any) -> AdaptedModel:
        """Learn the pool's labels, or the actions where it has none."""
        from netllm_adapt import fit

        return fit(model, experience, **run)
