"""Flow classification: say from its first packets which application, or attack, sent a flow.

What is seen of a flow is the size, the direction and the gap of each of its first packets, and
header fields that encryption leaves readable. The answer is a probability for each class. Macro F1
decides, in which rare classes count as much as common ones.

This module is the whole task on one page: flows, settings and metrics (`netllm_sims.flows`), what
the model sees (`PACKETS` and `HEADER`), how it answers (`Flows.head`), the rivals
(`netllm_baselines.flows`) and the recipe. There is no pool: the model learns from labelled flows.

Source: the supervised recipe is that of NetLLM (Wu et al., SIGCOMM 2024) for viewport prediction;
the packet series is that of AppScanner (Taylor et al., EuroS&P 2016) and later work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.flows.state import State
from netllm.task import Draw, Metric, ObservationField, Outcome, Policy, SupervisedTask

if TYPE_CHECKING:
    from netllm_adapt import Predictor, Recipe
    from netllm_sims.flows import HostDay, Setting
    from torch import nn

    from netllm.flows.labelled_flows import LabelledFlows

PACKETS: dict[str, dict[str, Any]] = {
    "sizes_bytes": {"scale": 100.0, "log": True},
    "gaps_ms": {"scale": 5.0, "log": True},
}
"""What the model sees of the packets: a token per `PACKETS_PER_TOKEN`, and one of each series."""
PACKETS_PER_TOKEN = 3
HEADER: dict[str, dict[str, Any]] = {
    "protocol": {"scale": 6.0},
    "server_port": {"scale": 100.0, "log": True},
}
"""What it sees of the header, a token each; one of the statistics follows where there are some.

Scales bring typical values to order one; what spans orders of magnitude is seen through a
logarithm, sizes with the sign of their direction.
"""


class Flows(SupervisedTask):
    """Flow classification."""

    name = "flows"
    metrics = (
        Metric("macro_f1", "macro F1", share=True),
        Metric("mean_recall", "mean recall", share=True),
        Metric("false_alarms_per_million", "false alarms per million", higher_is_better=False),
        Metric("calibration_error", "calibration error", higher_is_better=False, share=True),
        Metric("unknown_auroc", "unknown AUROC", share=True),
    )
    rivals = ("port", "nearest-neighbours", "gradient-boosting", "cnn")
    fallback = "port"
    published = frozenset({"gradient-boosting"})
    trainers: Mapping[str, str] = {"cnn": "netllm_baselines.flows.cnn_training:train_cnn"}
    plots: Mapping[str, str] = {"recall.png": "netllm.flows.plots:recall"}
    importers = "netllm_sims.flows.importers"
    recorder = "netllm.flows.recording.record:record"
    simulator = "netllm_sims.flows"
    State = State
    layers: int | None = 4
    training: Mapping[str, Any] = {
        "steps": 800,
        "batch": 128,
        "micro_batch": 128,
        "average": 0.99,
        "validate_every": 100,
    }

    def metrics_of(self, setting: Setting) -> tuple[Metric, ...]:
        """And the recall of each class."""
        from netllm.flows.pooled_rows import recall_key

        recalls = (
            Metric(recall_key(name), name, share=True, group="recall of each class")
            for name in setting.classes
        )
        return (*self.metrics, *recalls)

    @property
    def draws(self) -> Mapping[str, Draw]:
        """Plots by file name; without the distribution over episodes, which have no F1 scores."""
        return {name: draw for name, draw in super().draws.items() if name != "cdf.png"}

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[HostDay]:
        """Hosts on days of a part; a choice, if fewer, of `test` always the same."""
        return setting.episodes(part, count=count, seed=seed)

    def clusters(
        self, setting: Setting, episodes: Sequence[HostDay]
    ) -> Mapping[str, Mapping[str, str]]:
        """The host of each episode; and the day, where other days are asked about."""
        by_day = setting.split == "day"
        return {
            one.id: {"host": one.host} | ({"day": one.day} if by_day else {}) for one in episodes
        }

    def rollout(
        self, policy: Policy, setting: Setting, episodes: Sequence[HostDay], *, seed: int
    ) -> Outcome:
        """What was answered about every flow; `pooled` makes metrics of it."""
        from netllm_sims.flows import rollout

        from netllm.flows.pooled_rows import row

        done = rollout(policy, setting, episodes, seed=seed)
        pairs = zip(episodes, done.answers, strict=True)
        rows = [row(one, answers, setting) for one, answers in pairs]
        return Outcome(rows, done.decisions, done.seconds)

    def pooled(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Rows with metrics whose means are those of all flows together."""
        from netllm.flows.pooled_rows import pooled

        return pooled(rows)

    def observation_fields(self, setting: Setting) -> Mapping[str, ObservationField]:
        """What `netllm_sims.flows.rollout` shows."""
        from netllm.flows.observation_fields import observation_fields

        return observation_fields(setting)

    def experience(self, pool: Path | None, setting: Setting, recipe: Recipe) -> LabelledFlows:
        """All flows of the training part."""
        from netllm.flows.labelled_flows import LabelledFlows

        return LabelledFlows(setting)

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """Tokens of the packets one by one, of header and statistics, and of all packets."""
        from netllm_encoders import Points

        known = {name: {"kind": "scalar", **own} for name, own in HEADER.items()}
        if count := len(setting.statistic_names):
            known["statistics"] = {"kind": "series", "length": count, "kernel": 1, "log": True}
        whole = {"kind": "series", "length": setting.packets}
        return Points(
            width=width,
            length=setting.packets,
            series=PACKETS,
            fields=known | {name: whole | own for name, own in PACKETS.items()},
            group=PACKETS_PER_TOKEN,
        )

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """A distribution over the classes that train."""
        from netllm_heads import Categorical

        return Categorical(width=width, answers=len(setting.classes))

    def policy(self, model: Predictor, setting: Setting) -> Policy:
        """The model, which gives each class of the setting its probability."""
        from netllm.flows.policy import Classifier

        return Classifier(model, setting)

    def fit(self, model: Predictor, experience: LabelledFlows, **run: Any) -> Predictor:
        """Learn the labels; see `netllm_adapt.fit`."""
        model.state |= {
            "classes": list(experience.classes),
            "statistics": list(experience.statistic_names),
        }
        return super().fit(model, experience, **run)
