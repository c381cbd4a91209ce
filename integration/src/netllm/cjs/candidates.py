"""What a scheduler can choose from at one step, as a table for a rule tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from netllm.cjs.observation import JOBS, STAGES

_CLUSTER = ("committable", "executors", "can_wait")
NAMES = (
    *(f"stages.{name}" for name in STAGES),
    *(f"jobs.{name}" for name in JOBS),
    *("frontier", *_CLUSTER, "waits"),
)


def candidates(observation: Mapping[str, Any]) -> tuple[Sequence[str], Tensor]:
    """Names of columns, and a row for each schedulable stage, then one for none of them.

    A row has the columns of the stage and of its job, and numbers of the cluster; of none zeros but
    for these, and `waits` 1.

    Args:
        observation: of one step, as `netllm.cjs.observation.seen` gives it, in tensors.
    """
    stages, jobs, owner, chosen, frontier = (
        observation[name].values
        for name in ("stages", "jobs", "stage_job", "schedulable", "frontier")
    )
    own = torch.cat([stages, jobs[owner.long()], frontier[:, None]], 1)[chosen.bool()]
    cluster = torch.stack([observation[name].flatten()[0].float() for name in _CLUSTER])
    table = torch.zeros(len(own) + 1, len(NAMES))
    table[:-1, : own.shape[1]] = own
    table[:, own.shape[1] : -1] = cluster
    table[-1, -1] = 1
    return NAMES, table
