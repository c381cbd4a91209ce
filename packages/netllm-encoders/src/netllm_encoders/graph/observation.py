"""An observation of cluster job scheduling, checked, all steps under one another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_RAGGED = ("stages", "jobs", "edges", "stage_job", "schedulable", "frontier")
_WHOLE = ("committable", "executors", "can_wait")


def step_shape(observation: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and steps, as `committable` has them.

    Raises:
        ValueError: If a field is missing, or one number per step is not.
    """
    for name in (*_RAGGED, *_WHOLE):
        if name not in observation:
            raise ValueError(
                f"the observation must hold the field {name!r}, got {', '.join(observation)}. "
                "Was the encoder built for another task?"
            )
    shape = tuple(observation["committable"].shape)
    for name in _WHOLE:
        if len(shape) != 2 or tuple(observation[name].shape) != shape:
            raise ValueError(
                f"field {name!r} must be one value per step, shape (batch, step), as many as "
                f"'committable' has, {shape}, got shape {tuple(observation[name].shape)}."
            )
    return shape[0], shape[1]


def ragged(
    observation: Mapping[str, Any], name: str, *, steps: int, columns: int | None = None
) -> tuple[Tensor, Tensor]:
    """Values and offsets of a field with any number of rows per step.

    Raises:
        ValueError: If the offsets do not fit the steps or the values, or the columns differ.
    """
    values, ptr = observation[name]
    if ptr.shape != (steps + 1,) or int(ptr[-1]) != len(values):
        raise ValueError(
            f"field {name!r} must come with {steps + 1} offsets, the last {len(values)}, the "
            f"number of its rows, got {len(ptr)}, the last {int(ptr[-1]) if len(ptr) else None}."
        )
    row = () if columns is None else (columns,)
    if values.shape[1:] != row:
        raise ValueError(
            f"field {name!r} must have shape ({', '.join(map(str, ('rows', *row)))}), got "
            f"{tuple(values.shape)}. Are the columns declared as observed?"
        )
    return values, ptr.long()


def rows_of(ptr: Int[Tensor, "offset"], total: int) -> Int[Tensor, "row"]:
    """The step of every row."""
    steps = torch.arange(len(ptr) - 1, device=ptr.device)
    return steps.repeat_interleave(ptr.diff(), output_size=total)


def check_own(name: str, rows: Tensor, counts: Tensor, of: str) -> None:
    """Raise unless rows are numbered within their own step.

    Raises:
        ValueError: If one is not.
    """
    wrong = (rows < 0) | (rows >= counts)
    if bool(wrong.any()):
        raise ValueError(
            f"field {name!r} must number the {of} of its own step, got {int(rows[wrong][0])}, "
            f"where a step has {int(counts.expand_as(rows)[wrong][0])}."
        )


def offsets_of(counts: Int[Tensor, "step"]) -> Int[Tensor, "offset"]:
    """Where every step's rows begin, and the end."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def choices(observation: Mapping[str, Any], steps: int) -> Int[Tensor, "offset"]:
    """Offsets of every step's schedulable stages, among the schedulable ones."""
    schedulable, ptr = ragged(observation, "schedulable", steps=steps)
    return offsets_of(schedulable.long()).index_select(0, ptr)


@dataclass(frozen=True)
class Cluster:
    """Stages, jobs and edges of all steps, with rows counted over all of them."""

    shape: tuple[int, int]
    stages: Float[Tensor, "stage stage_column"]
    stage_step: Int[Tensor, "stage"]
    stage_job: Int[Tensor, "stage"]
    schedulable: Bool[Tensor, "stage"]
    frontier: Bool[Tensor, "stage"]
    jobs: Float[Tensor, "job job_column"]
    job_step: Int[Tensor, "job"]
    edges: Int[Tensor, "edge 2"]
    chosen_ptr: Int[Tensor, "offset"]
    """Offsets of every step's schedulable stages, among the schedulable ones."""
    committable: Int[Tensor, "step"]
    executors: Int[Tensor, "step"]
    """At least 1, for padding steps have none."""
    can_wait: Bool[Tensor, "step"]

    @classmethod
    def read(
        cls, observation: Mapping[str, Any], *, stage_columns: int, job_columns: int
    ) -> "Cluster":
        """The observation, when it is complete and has these numbers of columns.

        Raises:
            ValueError: If it is not.
        """
        shape = step_shape(observation)
        steps = shape[0] * shape[1]
        stages, stage_ptr = ragged(observation, "stages", steps=steps, columns=stage_columns)
        jobs, job_ptr = ragged(observation, "jobs", steps=steps, columns=job_columns)
        edges, edge_ptr = ragged(observation, "edges", steps=steps, columns=2)
        per_stage = {}
        for name in ("stage_job", "schedulable", "frontier"):
            per_stage[name], ptr = ragged(observation, name, steps=steps)
            if not torch.equal(ptr, stage_ptr):
                raise ValueError(f"field {name!r} must have one row per stage of every step.")
        own = {"stages": stage_ptr.diff(), "jobs": job_ptr.diff()}
        stage_step, edge_step = rows_of(stage_ptr, len(stages)), rows_of(edge_ptr, len(edges))
        check_own("edges", edges, own["stages"].index_select(0, edge_step)[:, None], "stages")
        check_own(
            "stage_job", per_stage["stage_job"], own["jobs"].index_select(0, stage_step), "jobs"
        )
        return cls(
            shape=shape,
            stages=stages.float(),
            stage_step=stage_step,
            stage_job=per_stage["stage_job"].long() + job_ptr.index_select(0, stage_step),
            schedulable=per_stage["schedulable"].bool(),
            frontier=per_stage["frontier"].bool(),
            jobs=jobs.float(),
            job_step=rows_of(job_ptr, len(jobs)),
            edges=edges.long() + stage_ptr.index_select(0, edge_step)[:, None],
            chosen_ptr=choices(observation, steps),
            committable=observation["committable"].flatten().long(),
            executors=observation["executors"].flatten().long().clamp(min=1),
            can_wait=observation["can_wait"].flatten().bool(),
        )
