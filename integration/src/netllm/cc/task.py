"""Congestion control: find the rate of a bottleneck link, one monitoring interval after another.

A sender shares a bottleneck, whose capacity changes, with a queue and perhaps with another flow.
Twice per round trip it multiplies its sending rate by one of nine factors. The utility of an
interval is Orca's normalised power: (throughput - 5 lost) / capacity, times 1.25 shortest round
trip / round trip where that is below 1.

This module is the whole task on one page: environment (`netllm_sims.cc`), what the model sees
(`FIELDS`), how it answers (`CC.head`), the rivals (`netllm_baselines.cc`), the metrics and the
recipe.

Source: the monitoring intervals are those of PCC (Dong et al., NSDI 2015) and Aurora (Jay et al.,
ICML 2019), the utility is that of Orca (Abbasloo et al., SIGCOMM 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netllm.cc.observation_fields import HISTORY
from netllm.task import Metric, ObservationField, PoolTask

if TYPE_CHECKING:
    from netllm_adapt import Recipe
    from netllm_sims.cc import Link, Senders, Setting
    from torch import nn

FIELDS: dict[str, dict[str, Any]] = {
    "throughput_ratio": {"kind": "series", "length": HISTORY, "log": True},
    "send_ratio": {"kind": "series", "length": HISTORY, "log": True},
    "inflation": {"kind": "series", "length": HISTORY, "scale": 0.1, "log": True},
    "rtt_gradient": {"kind": "series", "length": HISTORY, "scale": 0.1},
    "loss": {"kind": "series", "length": HISTORY, "scale": 0.02, "log": True},
}
"""What the model sees of an observation, token by token: nothing that depends on a link's speed.

Scales bring typical values to order one; what spans orders of magnitude is seen through a
logarithm.
"""


class CC(PoolTask):
    """Congestion control."""

    name = "cc"
    metrics = (
        Metric("utility", "utility"),
        Metric("throughput_mbps", "Mbit/s"),
        Metric("rtt95_ms", "95 % RTT ms", higher_is_better=False),
        Metric("loss", "share lost", higher_is_better=False, share=True),
        Metric("fairness", "Jain's index", share=True),
    )
    rivals = ("cubic", "vegas", "copa", "bbr", "vivace", "aurora", "capacity")
    bounds = frozenset({"capacity"})
    fallback = "aimd"
    published = frozenset({"copa", "bbr"})
    trainers: Mapping[str, str] = {
        "aurora": "netllm_baselines.cc.aurora_training:train_aurora",
    }
    simulator = "netllm_sims.cc"
    validation = 60
    layers = 4
    training: Mapping[str, Any] = {
        "steps": 800,
        "validate_every": 200,
        "average": 0.98,
        "returns": False,
    }
    teacher = "aurora"
    quantiles = (0.5, 0.25, 0.75, 0.9)
    reason = "the flow is over"

    def rivals_of(self, setting: Setting) -> Sequence[str]:
        """All but `capacity` where flows meet: its fair share bounds nobody's utility there."""
        return [name for name in self.rivals if not (setting.competitors and name in self.bounds)]

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Link]:
        """Links of a part: drawn by the seed, or for `test` the first of the 100 fixed ones."""
        return setting.links(part, episodes=count, seed=seed)

    def clusters(
        self, setting: Setting, episodes: Sequence[Link]
    ) -> Mapping[str, Mapping[str, str]]:
        """The trace of each link: recorded ones are drawn several times."""
        return {link.id: {"trace": link.trace.digest} for link in episodes}

    def environment(
        self, setting: Setting, episodes: Sequence[Link], *, seed: int, record: bool
    ) -> Senders:
        """A sender on each link; pools keep numbers in 32 bits, and rates as the closest factors.

        The links draw their losses by seeds of their own.
        """
        from netllm_sims.cc import Senders

        dtype = "float32" if record else "float64"
        return Senders(setting, episodes, dtype=dtype, indices=record)

    def observation_fields(self, setting: Setting) -> Mapping[str, ObservationField]:
        """What `netllm_sims.cc.Simulator` shows."""
        from netllm.cc.observation_fields import observation_fields

        return observation_fields()

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """One token per field of `FIELDS`, one for the return-to-go."""
        from netllm_encoders import Step
        from netllm_sims.cc import FACTORS

        return Step(
            width=width,
            fields=FIELDS,
            actions=len(FACTORS),
            return_scale=float(setting.intervals),
        )

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """A distribution over the factors, so that every answer is a valid one."""
        from netllm_heads import Categorical
        from netllm_sims.cc import FACTORS

        return Categorical(width=width, answers=len(FACTORS))
