"""The task: what its episodes are, what a model sees of them, and how it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netllm.task import Metric, PoolTask

from congestion_control.link import FACTORS, Link, Senders, Setting, links

if TYPE_CHECKING:
    from netllm_adapt import Recipe
    from netllm_encoders import Step
    from netllm_heads import Categorical


class Congestion(PoolTask):
    """Congestion control: the rate of a sender on a link that it shares with nobody."""

    name = "congestion"
    metrics = (
        Metric("utility", "utility"),
        Metric("lost", "share lost", higher_is_better=False),
    )
    rivals = ("delay", "aimd")
    fallback = "aimd"
    published = frozenset({"aimd"})
    presets: Mapping[str, Setting] = {
        "default": Setting("default"),
        "unseen-swing": Setting("unseen-swing", swing=0.4),
    }
    validation = 32
    chunk = 128
    training: Mapping[str, Any] = {"steps": 200, "validate_every": 50}
    teacher = "delay"
    quantiles = (0.9, 1.0)
    reason = "the transfer is cut off"

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Link]:
        """Links of `train`, `valid` or `test`."""
        return links(part, count or 128, seed)

    def environment(
        self, setting: Setting, episodes: Sequence[Link], *, seed: int, record: bool
    ) -> Senders:
        """A sender on each link."""
        return Senders(setting, episodes)

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
