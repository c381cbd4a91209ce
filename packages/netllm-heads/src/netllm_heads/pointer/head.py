"""One of any number of stages, then a number of executors for it."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from netllm_heads.pointer.choices import Choices
from netllm_heads.pointer.executors import (
    ADVICE_FEATURES,
    FEATURES,
    advice_features,
    executor_features,
)
from netllm_heads.pointer.labels import labelled
from netllm_heads.pointer.ragged_softmax import argmax, log_softmax, members, offsets, perturbed

TRUST = 2.0
"""What advice adds to a logit at first: makes it e² times as probable."""


class Pointer(nn.Module):
    """A stage out of those that are schedulable, or none; then executors, given the stage.

    A step's hidden states are those of its tokens: return-to-go, globals, the n schedulable stages,
    a decision token D. With h the layer-normed states, a stage's logit is f(h_D, h_stage), a small
    MLP and a scaled product; that of none is a small MLP of h_D, -inf unless `can_wait`. One
    softmax covers the stages and none. The executors k of the chosen stage have the logits
    q(h_D, h_stage)·φ(k, limit, executors), k = 1 … limit = min(demand, committable). Neither stages
    nor executors have a fixed limit, and invalid answers have probability exactly zero. All is
    computed in float32.

    Where a rule's advice is among the stages' columns, its choice and its number of executors have
    larger logits by two learned numbers, `TRUST` at first, and φ tells how far k is from it: a new
    head mostly follows the advice, a trained one knows when not to.

    Args:
        width: The backbone's width.
        hidden: Width of the hidden layers.
        demand: Column of `stages` that says how many executors a stage can still use.
        advised: Column of `stages` that says how many executors a rule would give: above 0 for the
            stage it would choose, for no stage if it would wait. None if there is no advice.

    Raises:
        ValueError: If a setting is out of range.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.2, two linear heads, for at most 100 stages
    and as many executors as the cluster has; the pointers and the executors after the stage are
    ours.
    """

    def __init__(
        self, *, width: int, hidden: int = 128, demand: int = 4, advised: int | None = None
    ) -> None:
        super().__init__()
        if min(width, hidden) < 1 or min(demand, advised or 0) < 0:
            raise ValueError(
                "`width` and `hidden` must be at least 1, `demand` and `advised` at least 0, "
                f"got {width}, {hidden}, {demand} and {advised}."
            )
        self.width = width
        self.hidden = hidden
        self.demand = demand
        self.advised = advised
        self.decision_norm, self.stage_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        # Each gives its part of the MLP's hidden layer, and its factor of the product.
        self.decision_layer = nn.Linear(width, 2 * hidden)
        self.stage_layer = nn.Linear(width, 2 * hidden, bias=False)
        self.stage_logit = nn.Sequential(nn.GELU(), nn.Linear(hidden, 1))
        self.none_logit = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))
        self.query = nn.Sequential(
            nn.Linear(2 * width, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        features = FEATURES + (0 if advised is None else ADVICE_FEATURES)
        if advised is not None:
            self.trust = nn.Parameter(torch.full((2,), TRUST))
        self.key = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden))

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Pointer(**config)` is the same head with new weights."""
        columns = {"demand": self.demand, "advised": self.advised}
        return {"width": self.width, "hidden": self.hidden, **columns}

    def distribution(
        self,
        hidden: tuple[Float[Tensor, "token width"], Int[Tensor, "offset"]],
        observation: Mapping[str, Any],
        choice: Int[Tensor, "batch step"] | None = None,
    ) -> tuple[Float[Tensor, "row"], Int[Tensor, "offset"]]:
        """Log-probabilities of the stages, or of the executors given a choice of stages.

        Args:
            hidden: As for `answer`.
            observation: As for `answer`.
            choice: Which of the schedulable stages, -1 for none; None to get those of the stages.

        Returns:
            Values and offsets. Without `choice` a step with tokens has one value per schedulable
            stage, then that of none. With it a step whose choice is a stage has one per number of
            executors, from 1; other steps have none.

        Raises:
            ValueError: As `answer` does, or if a choice is no schedulable stage of the step.
        """
        choices = self._choices(hidden, observation)
        counts = torch.zeros_like(choices.counts)
        if choice is None:
            logits, group = self._stages(choices)
            order = torch.argsort(group, stable=True)
            counts[choices.active] = choices.counts[choices.active] + 1
            logs = log_softmax(logits, group, len(choices.active))
            return logs.index_select(0, order), offsets(counts)
        flat = choice.flatten().long()
        choices.check(choices.active, flat[choices.active], "a choice")
        step = ((choices.counts > 0) & (flat >= 0)).nonzero()[:, 0]
        logs, group, limit = self._executors(choices, step, flat[step])
        return logs, offsets(counts.index_copy(0, step, limit))

    def answer(
        self,
        hidden: tuple[Float[Tensor, "token width"], Int[Tensor, "offset"]],
        observation: Mapping[str, Any],
        *,
        greedy: bool = True,
        generator: Generator | None = None,
    ) -> Int[Tensor, "batch step 2"]:
        """The most probable stage and then executors of every step, or both drawn.

        Args:
            hidden: States of the tokens of all steps, and where each step's begin, and the end.
            observation: Holds the ragged fields `stages` and `schedulable`, pairs of values and
                offsets, and `committable`, `executors` and `can_wait`, shape `(batch, step)`.
            greedy: Whether the most probable answer is given; the first of equal ones.
            generator: Source of the draws; torch's global one if None.

        Returns:
            Which of the step's schedulable stages, and executors from 1. Waiting is (-1, 1); a step
            without tokens has (-1, 0).

        Raises:
            ValueError: If `hidden` has another width, a field is missing, or the shapes disagree.
        """
        choices = self._choices(hidden, observation)
        logits, group = self._stages(choices)
        best = argmax(
            logits if greedy else perturbed(logits, generator), group, len(choices.active)
        )
        waits = best >= len(choices.rows)
        step = choices.active[~waits]
        place = best[~waits] - choices.begin[step]
        logs, group, limit = self._executors(choices, step, place)
        best = argmax(logs if greedy else perturbed(logs, generator), group, len(step))
        answer = torch.zeros(len(choices.counts), 2, dtype=torch.int64, device=logits.device)
        answer[:, 0] = -1
        answer[choices.active, 1] = 1
        answer[step, 0] = place
        answer[step, 1] = best - (limit.cumsum(0) - limit) + 1
        return answer.view(*choices.shape, 2)

    def loss(
        self,
        hidden: tuple[Float[Tensor, "token width"], Int[Tensor, "offset"]],
        observation: Mapping[str, Any],
        label: Int[Tensor, "batch step 2"] | Float[Tensor, "batch step answer 3"],
    ) -> Float[Tensor, "batch step"]:
        """Cross-entropy of every step in nats: of the stage, plus of the executors given it.

        Args:
            hidden: As for `answer`.
            observation: As for `answer`.
            label: Which of the schedulable stages, -1 for none; and executors, taken within 1 and
                the limit, for a cluster grants no more. Or several such answers per step, each
                with its weight, of which those of 0 are passed over. The loss is zero where
                the choice is `NO_LABEL` and where a step has no tokens.

        Raises:
            ValueError: As `answer` does, or if a label has another shape, names no schedulable
                stage, or none where `can_wait` forbids it, or has a weight that is negative or not
                finite.
        """
        choices = self._choices(hidden, observation)
        lesson = labelled(label, choices)
        logits, group = self._stages(choices)
        logs = log_softmax(logits, group, len(choices.active))
        # The i-th active step's none comes i places after the last stage.
        none = torch.zeros_like(choices.counts)
        none[choices.active] = len(choices.rows) + torch.arange(
            len(choices.active), device=none.device
        )
        row = choices.begin[lesson.step] + lesson.choice
        waits = lesson.choice < 0
        chosen = logs.index_select(0, torch.where(waits, none[lesson.step], row))

        row, place = row[~waits].unique(return_inverse=True)
        step = choices.active[choices.group.index_select(0, row)]
        logs, _, limit = self._executors(choices, step, row - choices.begin[step])
        granted = torch.minimum(lesson.executors[~waits].clamp(min=1), limit[place])
        given = logs.index_select(0, (limit.cumsum(0) - limit)[place] + granted - 1)
        chosen = chosen.index_add(0, (~waits).nonzero()[:, 0], given)

        loss = logs.new_zeros(len(choices.counts))
        loss = loss.index_add(0, lesson.step, -lesson.weight * chosen)
        return loss.view(choices.shape)

    def _choices(self, hidden: tuple[Tensor, Tensor], observation: Mapping[str, Any]) -> Choices:
        values, ptr = hidden
        if values.shape[-1] != self.width:
            raise ValueError(
                f"`hidden` must end with width {self.width}, got shape {tuple(values.shape)}. "
                "Was the head built for another backbone?"
            )
        choices = Choices.read(
            values.float(), ptr.long(), observation, demand=self.demand, advised=self.advised
        )
        with torch.autocast(values.device.type, enabled=False):
            return choices.normed(self.decision_norm, self.stage_norm)

    def _stages(self, choices: Choices) -> tuple[Tensor, Tensor]:
        """Logits of all stages, then of none of all active steps; and the active step of each."""
        with torch.autocast(choices.stages.device.type, enabled=False):
            decisions = self.decision_layer(choices.decisions).index_select(0, choices.group)
            between, query = decisions.chunk(2, -1)
            stages, key = self.stage_layer(choices.stages).chunk(2, -1)
            logits = self.stage_logit(between + stages)[:, 0]
            logits = logits + (query * key).sum(-1) / math.sqrt(self.hidden)
            none = self.none_logit(choices.decisions)[:, 0]
        if self.advised is not None:
            chosen = (choices.advised > 0).to(logits.dtype)
            logits = logits + self.trust[0] * chosen
            none = none + self.trust[0] * (
                1 - none.new_zeros(none.shape).index_add(0, choices.group, chosen)
            )
        none = none.masked_fill(~choices.can_wait[choices.active], -torch.inf)
        active = torch.arange(len(choices.active), device=none.device)
        return torch.cat([logits, none]), torch.cat([choices.group, active])

    def _executors(
        self, choices: Choices, step: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of 1 … limit for chosen stages, the choice of each, the limits."""
        row = choices.begin[step] + place
        limit, executors = choices.limit(row, step), choices.executors[step]
        group, k = members(limit)
        with torch.autocast(choices.stages.device.type, enabled=False):
            decision = choices.decisions.index_select(0, choices.group.index_select(0, row))
            query = self.query(torch.cat([decision, choices.stages.index_select(0, row)], -1))
            features = executor_features(k + 1, limit[group], executors[group])
            if self.advised is not None:
                advised = choices.advised.index_select(0, row).index_select(0, group)
                features = torch.cat([features, advice_features(k + 1, advised)], -1)
            key = self.key(features)
            logits = (query.index_select(0, group) * key).sum(-1) / math.sqrt(self.hidden)
            if self.advised is not None:
                logits = logits + self.trust[1] * (k + 1 == advised)
        return log_softmax(logits, group, len(step)), group, limit
