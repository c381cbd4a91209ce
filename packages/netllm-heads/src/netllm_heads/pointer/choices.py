"""What every step of cluster job scheduling can choose from, and the hidden states of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netllm_heads.pointer.ragged_softmax import members

_AROUND = 3  # tokens of a step besides its stages: return-to-go, globals, decision
_NEEDED = ("stages", "schedulable", "committable", "executors", "can_wait")


@dataclass(frozen=True)
class Choices:
    """The schedulable stages of all steps under one another; a step with any is active."""

    shape: tuple[int, int]
    counts: Int[Tensor, "step"]
    """Schedulable stages of every step."""
    begin: Int[Tensor, "step"]
    """Every step's first row in `stages`."""
    active: Int[Tensor, "active"]
    """The active steps."""
    decisions: Float[Tensor, "active width"]
    """States of the decision tokens."""
    group: Int[Tensor, "stage"]
    """Of every stage its place among the active steps."""
    stages: Float[Tensor, "stage width"]
    """States of the schedulable stages' tokens."""
    rows: Int[Tensor, "stage"]
    """Rows of the schedulable stages in the observation."""
    demand: Int[Tensor, "row"]
    advised: Int[Tensor, "stage"]
    """Executors that every schedulable stage is advised to get; 0 for none."""
    committable: Int[Tensor, "step"]
    executors: Int[Tensor, "step"]
    can_wait: Bool[Tensor, "step"]

    @classmethod
    def read(
        cls,
        values: Float[Tensor, "token width"],
        ptr: Int[Tensor, "offset"],
        observation: Mapping[str, Any],
        *,
        demand: int,
        advised: int | None = None,
    ) -> "Choices":
        """The choices, when hidden states and observation fit each other.

        Raises:
            ValueError: If a field is missing or they do not fit.
        """
        shape = _shape(observation)
        stages, stage_ptr = observation["stages"]
        schedulable, _ = observation["schedulable"]
        _check_stages(stages, len(schedulable), demand, advised)
        ends = nn.functional.pad(schedulable.long().cumsum(0), (1, 0))
        counts = ends.index_select(0, stage_ptr.long()).diff()
        _check_states(values, ptr, counts)
        active = counts.nonzero()[:, 0]
        group, place = members(counts[active])
        token = ptr[active].index_select(0, group) + 2 + place
        rows = schedulable.nonzero()[:, 0]
        advice = stages.new_zeros(len(rows)) if advised is None else stages[rows, advised]
        return cls(
            shape=shape,
            counts=counts,
            begin=counts.cumsum(0) - counts,
            active=active,
            decisions=values.index_select(0, ptr[active + 1] - 1),
            group=group,
            stages=values.index_select(0, token),
            rows=rows,
            demand=stages[:, demand].round().long(),
            advised=advice.round().long(),
            committable=observation["committable"].flatten().long(),
            executors=observation["executors"].flatten().long().clamp(min=1),
            can_wait=observation["can_wait"].flatten().bool(),
        )

    def normed(self, decision: nn.Module, stage: nn.Module) -> "Choices":
        """The same, with the states of decisions and stages through these layers."""
        return replace(self, decisions=decision(self.decisions), stages=stage(self.stages))

    def limit(
        self, row: Int[Tensor, "chosen"], step: Int[Tensor, "chosen"]
    ) -> Int[Tensor, "chosen"]:
        """Most executors that chosen stages can be given; at least 1."""
        demand = self.demand.index_select(0, self.rows.index_select(0, row))
        return torch.minimum(demand, self.committable[step]).clamp(min=1)

    def check(self, step: Int[Tensor, "row"], choice: Int[Tensor, "row"], what: str) -> None:
        """Raise unless every choice is possible in its step.

        Raises:
            ValueError: If one is not.
        """
        wrong = (choice < -1) | (choice >= self.counts[step])
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"{what} must name one of the step's {int(self.counts[step[row]])} schedulable "
                f"stages, from 0, or -1 for none, got {int(choice[row])} in "
                f"{self._place(int(step[row]))}. Was it counted among all stages?"
            )

    def check_waits(self, step: Int[Tensor, "row"], choice: Int[Tensor, "row"]) -> None:
        """Raise unless labels wait only where that is allowed.

        Raises:
            ValueError: If one does.
        """
        wrong = (choice == -1) & ~self.can_wait[step]
        if bool(wrong.any()):
            raise ValueError(
                f"a label must be a stage where `can_wait` is false, got -1 in "
                f"{self._place(int(step[wrong][0]))}. Do labels and observations come from the "
                "same step?"
            )

    def _place(self, step: int) -> str:
        return f"row {step // self.shape[1]}, step {step % self.shape[1]}"


def _check_stages(stages: Tensor, rows: int, demand: int, advised: int | None) -> None:
    last = max(demand, advised or 0)
    if len(stages) != rows or stages.shape[-1] <= last:
        raise ValueError(
            f"'stages' must have one row per entry of 'schedulable', {rows}, and columns up to "
            f"{last} (demand: {demand}, advised: {advised}), got shape {tuple(stages.shape)}."
        )


def _check_states(values: Tensor, ptr: Tensor, counts: Tensor) -> None:
    expected = torch.where(counts > 0, counts + _AROUND, 0)
    if not torch.equal(ptr.diff(), expected) or int(ptr[-1]) != len(values):
        raise ValueError(
            f"`hidden` must have 3 states around those of the schedulable stages of each of the "
            f"{len(counts)} steps, {int(expected.sum())} in all, got {len(values)} in "
            f"{len(ptr) - 1} steps. Do states and observation come from the same steps?"
        )


def _shape(observation: Mapping[str, Any]) -> tuple[int, int]:
    for name in _NEEDED:
        if name not in observation:
            raise ValueError(
                f"the observation must hold {name!r}, got {', '.join(observation)}. "
                "Was the head built for another task?"
            )
    shape = tuple(observation["committable"].shape)
    steps = len(observation["stages"][1]) - 1
    for name in ("committable", "executors", "can_wait"):
        found = tuple(observation[name].shape)
        if found != shape or len(shape) != 2 or shape[0] * shape[1] != steps:
            raise ValueError(
                f"{name!r} must have shape (batch, step), as 'committable' has, and {steps} "
                f"entries, for that many steps 'stages' has, got {found}."
            )
    return shape[0], shape[1]
