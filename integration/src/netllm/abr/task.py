"""Adaptive bitrate streaming: choose the bitrate of the next video chunk.

A player downloads a video chunk by chunk over a link whose bandwidth changes. Every 4 s of video it
chooses one rate of a ladder. The quality of experience (QoE) of a chunk is its bitrate, minus 4.3
times the seconds that playback stalled, minus the change of bitrate, all in Mbit/s.

This module is the whole task on one page: environment (`netllm_sims.abr`), what the model sees
(`FIELDS`), how it answers (`ABR.head`), the rivals (`netllm_baselines.abr`), the metric and the
recipe.

Source: NetLLM (Wu et al., SIGCOMM 2024), sections 4 and A.2; the environment is Pensieve's (Mao et
al., SIGCOMM 2017).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.task import Draw, Metric, Outcome, Policy

if TYPE_CHECKING:
    from netllm_adapt import AdaptedModel, Episode, Pool, Recipe
    from netllm_sims.abr import Session, Setting, Trace
    from torch import nn

QOE = Metric("qoe", "QoE")
METRICS = (
    QOE,
    Metric("bitrate_mbps", "bitrate Mbit/s"),
    Metric("rebuffer_s", "stall s", higher_is_better=False),
    Metric("smoothness_mbps", "change Mbit/s", higher_is_better=False),
)

HISTORY = 6
"""Past and coming chunks that an observation shows."""


def _line(trace: Trace) -> str:
    unit = re.search(r"(?:^|_)trace_(\d+)_http", trace.id)
    return f"FCC unit {unit[1]}" if unit else trace.digest


def fields(levels: int) -> dict[str, dict[str, Any]]:
    """What the model sees of an observation, token by token, for a ladder of so many levels.

    Scales bring typical values to order one; throughput, delay and sizes span two orders of
    magnitude and are seen through a logarithm.
    """
    sizes = {"length": HISTORY, "channels": levels}
    return {
        "throughput_mbps": {"kind": "series", "length": HISTORY, "scale": 1.0, "log": True},
        "delay_s": {"kind": "series", "length": HISTORY, "scale": 2.0, "log": True},
        "sizes_mb": {"kind": "series", **sizes, "scale": 0.5, "log": True},
        "rate_kbps": {"kind": "scalar", "scale": 2_000.0},
        "buffer_s": {"kind": "scalar", "scale": 10.0},
        "chunks_left": {"kind": "scalar", "scale": 24.0},
    }


def check_ladder(rates: int | None, who: str, setting: Setting) -> None:
    """Refuse a ladder of another length than a model or a pool knows.

    Args:
        rates: how many rates it knows; None if it does not tell.
        who: whose they are, as the beginning of a sentence.
        setting: with its own ladder.

    Raises:
        ValueError: with both ladders.
    """
    ladder = setting.video.rates_kbps
    if rates is not None and rates != len(ladder):
        told = ", ".join(f"{rate:g}" for rate in ladder)
        raise ValueError(
            f"{who} one of {rates} rates, but the ladder `rates_kbps` of setting {setting.name!r} "
            f"has {len(ladder)} ({told} kbit/s). Set a ladder of {rates} rates, and a video that "
            "has them, with --set rates_kbps=… video=…, or collect and adapt on this one."
        )


class ABR:
    """Adaptive bitrate streaming, as a `netllm.task.Task`."""

    name = "abr"
    metrics = METRICS
    rivals = ("bba", "bola", "panda", "mpc", "genet", "ppo", "hindsight")
    bounds = frozenset({"hindsight"})
    published = frozenset({"genet"})
    supervised = False
    validation = 64
    chooses = True
    chunk = 64
    shard = 256
    trainers: Mapping[str, str] = {"ppo": "netllm_baselines.abr.ppo_training:train_ppo"}

    @property
    def draws(self) -> Mapping[str, Draw]:
        """The distribution of QoE over episodes, and its mean with intervals."""
        from netllm.report import plots

        return {
            "cdf.png": lambda ax, results: plots.cdf(ax, results, QOE, bounds=self.bounds),
            "bars.png": lambda ax, results: plots.bars(ax, results, QOE, bounds=self.bounds),
        }

    def settings(self) -> Mapping[str, str]:
        """The settings by name, with a line about each."""
        from netllm_sims.abr import settings

        return settings()

    def setting(self, name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
        """One setting, with any field overridden."""
        from netllm_sims.abr import setting

        # Other processes may work in another folder.
        folder = Path(data).resolve() if data is not None else None
        return setting(name, data=folder, **overrides)

    def seeds(self, setting: Setting) -> Sequence[int]:
        """The seed of GENET's published number; other policies do not depend on it."""
        return (100_003,)

    def by_seed(self, setting: Setting, part: str, seeds: Sequence[int]) -> None:
        """None: seeds are of random streams."""

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Session]:
        """Sessions of a part: drawn by the seed, or for `test` the published ones in file order."""
        return setting.sessions(part, episodes=count, seed=seed)

    def subsets(
        self, setting: Setting, episodes: Sequence[Session]
    ) -> Mapping[str, frozenset[str]]:
        """Sessions by tag, such as `clean`: the trace's content occurs in no training file."""
        tags = dict.fromkeys(tag for session in episodes for tag in session.tags)
        parts = {tag: frozenset(x.id for x in episodes if tag in x.tags) for tag in tags}
        return {tag: ids for tag, ids in parts.items() if len(ids) < len(episodes)}

    def clusters(
        self, setting: Setting, episodes: Sequence[Session]
    ) -> Mapping[str, Mapping[str, str]]:
        """The access line of each session: traces of one content, or of one unit of the FCC.

        FCC traces are named by the unit that measured them (`trace_942154_http---www.ebay.com_0`);
        the published 100 test traces are pieces of the recordings of 45 units.
        """
        return {session.id: {"line": _line(session.trace)} for session in episodes}

    def rollout(
        self, policy: Policy, setting: Setting, episodes: Sequence[Session], *, seed: int
    ) -> Outcome:
        """QoE and its parts, each the mean over an episode's decisions."""
        from netllm_sims.abr import rollout

        done = rollout(policy, setting, episodes, seed=seed)
        columns = {
            "qoe": done.qoe,
            "bitrate_mbps": done.bitrate_mbps.mean(1),
            "rebuffer_s": done.rebuffer_s.mean(1),
            "smoothness_mbps": done.smoothness_mbps.mean(1),
        }
        rows = [
            {"id": episode, **{key: float(column[i]) for key, column in columns.items()}}
            for i, episode in enumerate(done.ids)
        ]
        return Outcome(rows, done.actions.size, done.seconds)

    def record(
        self,
        policy: Policy,
        setting: Setting,
        episodes: Sequence[Session],
        *,
        name: str,
        seed: int,
        label: Policy | None,
        soft: bool,
        epsilon: float,
    ) -> Iterator[Episode]:
        """Episodes for a pool: all observed fields, actions, rewards and labels."""
        import numpy as np
        from netllm_adapt import Episode
        from netllm_sims.abr import rollout

        done = rollout(
            policy,
            setting,
            episodes,
            seed=seed,
            dtype=np.float32,
            record=True,
            label=label,
            soft=soft,
            epsilon=epsilon,
        )
        for i, episode in enumerate(done.ids):
            yield Episode(
                id=episode,
                policy=name,
                seed=seed,
                observations={field: values[i] for field, values in done.observations.items()},
                actions=done.actions[i],
                rewards=done.rewards[i],
                labels=None if done.labels is None else done.labels[i],
                meta={"qoe": float(done.qoe[i])},
                final={field: values[i] for field, values in done.final.items()},
                ended="terminated",
                reason="the video is over",
            )

    def experience(self, pool: Path | None, setting: Setting, recipe: Recipe) -> Pool:
        """The pool; this task learns from nothing else."""
        from netllm_adapt import Pool

        if pool is None:
            raise ValueError(
                "adapt abr needs a pool: collect one with "
                "`netllm rl-collect abr --policy ppo --out POOL` and give it as --pool POOL."
            )
        found = Pool(pool)
        sizes = found.fields.get("sizes_mb")
        check_ladder(sizes and sizes.shape[-1], f"{pool} was collected with", setting)
        return found

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """One token per field of `fields`, one for the return-to-go."""
        from netllm_encoders import Step

        levels = len(setting.video.rates_kbps)
        return Step(
            width=width, fields=fields(levels), actions=levels, return_scale=setting.video.chunks
        )

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """A distribution over the ladder, so that every answer is a valid level."""
        from netllm_heads import Categorical

        return Categorical(width=width, answers=len(setting.video.rates_kbps))

    def assemble(self, recipe: Recipe, **parts: Any) -> AdaptedModel:
        """A model that decides step after step."""
        from netllm_adapt import AdaptedModel

        return AdaptedModel(**parts, window=recipe.window, segment=recipe.segment)

    def policy(self, model: AdaptedModel, setting: Setting) -> Policy:
        """The model with its rolling cache of keys and values."""
        from netllm_adapt import Policy

        check_ladder(model.head.config().get("answers"), "This model answers with", setting)
        return Policy(model)

    def recipe(self, backbone: str) -> Recipe:
        """The best recipe found, on SmolLM2-135M; another backbone keeps all its layers."""
        from netllm_adapt import Recipe

        layers = 12 if backbone.endswith("smollm2-135m") else None
        return replace(Recipe(), layers=layers, steps=800, validate_every=200, average=0.98)

    def target_returns(self, experience: Pool) -> Sequence[float]:
        """Median and other quantiles of the pool's returns."""
        import numpy as np

        returns = [episode.rewards.sum() for episode in experience]
        return [float(q) for q in np.quantile(returns, (0.5, 0.25, 0.75, 0.9))]

    def fit(self, model: AdaptedModel, experience: Pool, **run: Any) -> AdaptedModel:
        """Learn the labels of the pool's decisions; see `netllm_adapt.training.loop.fit`."""
        from netllm_adapt.training.loop import fit

        return fit(model, experience, **run)
