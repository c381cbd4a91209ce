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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.task import Metric, ObservationField, Policy, PoolTask

if TYPE_CHECKING:
    from netllm_adapt import AdaptedModel, Pool, Recipe
    from netllm_sims.abr import Session, Setting, Trace
    from netllm_sims.abr.rollout import Players
    from torch import nn

_LIVE = frozenset({"throughput", "l2a", "lol-plus"})
"""Rivals that are usual only near the live edge."""
_NOT_LIVE = frozenset({"comyco", "genet", "ppo", "ppo-wide", "hindsight"})
HISTORY = 6
"""Past and coming chunks that an observation shows."""


def fields(levels: int, *, live: bool = False) -> dict[str, dict[str, Any]]:
    """What the model sees of an observation, token by token, for a ladder of so many levels.

    Near the live edge one token more tells the latency.

    Scales bring typical values to order one; throughput, delay and sizes span two orders of
    magnitude and are seen through a logarithm.
    """
    sizes = {"length": HISTORY, "channels": levels}
    latency = {"live_latency_s": {"kind": "scalar", "scale": 2.0}}
    return {
        "throughput_mbps": {"kind": "series", "length": HISTORY, "scale": 1.0, "log": True},
        "delay_s": {"kind": "series", "length": HISTORY, "scale": 2.0, "log": True},
        "sizes_mb": {"kind": "series", **sizes, "scale": 0.5, "log": True},
        "rate_kbps": {"kind": "scalar", "scale": 2_000.0},
        "buffer_s": {"kind": "scalar", "scale": 10.0},
        "chunks_left": {"kind": "scalar", "scale": 24.0},
        **(latency if live else {}),
    }


class ABR(PoolTask):
    """Adaptive bitrate streaming."""

    name = "abr"
    metrics = (
        Metric("qoe", "QoE"),
        Metric("bitrate_mbps", "bitrate Mbit/s"),
        Metric("rebuffer_s", "stall s", higher_is_better=False),
        Metric("smoothness_mbps", "change Mbit/s", higher_is_better=False),
    )
    rivals = (
        *("bba", "bola", "panda", "mpc", "soda", "fugu", "comyco"),
        *("genet", "ppo", "ppo-wide"),
        *("throughput", "l2a", "lol-plus"),
        "hindsight",
    )
    live_metrics = (
        Metric("live_latency_s", "latency s", higher_is_better=False),
        Metric("speed", "speed"),
    )
    bounds = frozenset({"hindsight"})
    fallback = "steady"
    published = frozenset({"genet"})
    trainers: Mapping[str, str] = {
        "comyco": "netllm_baselines.abr.comyco_training:train_comyco",
        "fugu": "netllm_baselines.abr.fugu_training:train_fugu",
        "ppo": "netllm_baselines.abr.ppo_training:train_ppo",
        "ppo-wide": "netllm_baselines.abr.ppo_wide_training:train_ppo_wide",
    }
    student = "netllm.abr.student_training:Training"
    importers = "netllm_sims.abr.importers"
    simulator = "netllm_sims.abr"
    validation = 64
    layers = 12
    training: Mapping[str, Any] = {"steps": 800, "validate_every": 200, "average": 0.98}
    teacher = "ppo"
    quantiles = (0.5, 0.25, 0.75, 0.9)
    reason = "the video is over"

    def rivals_of(self, setting: Setting) -> Sequence[str]:
        """Live neither policies that learned from video on demand nor a bound, but its own."""
        left_out = _NOT_LIVE if setting.live else _LIVE
        return [name for name in self.rivals if name not in left_out]

    def metrics_of(self, setting: Setting) -> tuple[Metric, ...]:
        """QoE and its parts; live with latency and speed of playback."""
        return (*self.metrics, *self.live_metrics) if setting.live else self.metrics

    def seeds(self, setting: Setting) -> Sequence[int]:
        """The seed of GENET's published number; other policies do not depend on it."""
        return (100_003,)

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

    def environment(
        self, setting: Setting, episodes: Sequence[Session], *, seed: int, record: bool
    ) -> Players:
        """Players of the setting's video, all at the same chunk; pools keep numbers in 32 bits."""
        from netllm_sims.abr.rollout import Players

        dtype = "float32" if record else "float64"
        return Players(setting, episodes, seed=seed, dtype=dtype)

    def observation_fields(self, setting: Setting) -> Mapping[str, ObservationField]:
        """What `netllm_sims.abr.Simulator` shows."""
        from netllm.abr.observation_fields import observation_fields

        return observation_fields(len(setting.video.rates_kbps), live=setting.live)

    def experience(self, pool: Path | None, setting: Setting, recipe: Recipe) -> Pool:
        """The pool, whose ladder must be the setting's."""
        found = super().experience(pool, setting, recipe)
        sizes = found.fields.get("sizes_mb")
        check_ladder(sizes and sizes.shape[-1], f"{pool} was collected with", setting)
        return found

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """One token per field of `fields`, one for the return-to-go."""
        from netllm_encoders import Step

        levels = len(setting.video.rates_kbps)
        return Step(
            width=width,
            fields=fields(levels, live=setting.live),
            actions=levels,
            return_scale=setting.video.chunks,
        )

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """A distribution over the ladder, so that every answer is a valid level."""
        from netllm_heads import Categorical

        return Categorical(width=width, answers=len(setting.video.rates_kbps))

    def policy(self, model: AdaptedModel, setting: Setting) -> Policy:
        """The model with its rolling cache of keys and values."""
        check_ladder(model.head.config().get("answers"), "This model answers with", setting)
        return super().policy(model, setting)


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


def _line(trace: Trace) -> str:
    unit = re.search(r"(?:^|_)trace_(\d+)_http", trace.id)
    return f"FCC unit {unit[1]}" if unit else trace.digest
