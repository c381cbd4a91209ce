"""Embeddings of stages, of jobs and of the whole cluster, from the bottom up."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from netllm_encoders.graph.columns import Columns
from netllm_encoders.graph.convolutions import Convolution, one_round
from netllm_encoders.graph.mlp import mlp
from netllm_encoders.graph.observation import Cluster


def pooled(rows: Tensor, owner: Int[Tensor, "row"], owners: int, reduce: str = "sum") -> Tensor:
    """The sum, or the `max`, of every owner's rows; zeros of an owner without any."""
    from torch_geometric.utils import scatter

    values: Tensor = scatter(rows, owner, dim_size=owners, reduce=reduce)
    return values


class Levels(nn.Module):
    """Embeddings of stages, then of jobs, then of the whole of every step.

    Args:
        stage_columns: Of `stages`; with `demand`, and perhaps `path_ms`.
        job_columns: Of `jobs`; with `supply`.
        hidden: Number of features.
        rounds: Rounds of messages.
        conv: The convolution of a round, see `convolutions.one_round`.
        conv_settings: Of the convolution.
    """

    def __init__(
        self,
        stage_columns: Columns,
        job_columns: Columns,
        *,
        hidden: int,
        rounds: int,
        conv: Convolution,
        conv_settings: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.stage_columns, self.job_columns = stage_columns, job_columns
        stage, job = len(stage_columns.names), len(job_columns.names)
        self.paths = [i for i, name in enumerate(stage_columns.names) if name == "path_ms"]
        self.stage_layers = mlp(stage + 3, hidden)
        self.rounds = nn.ModuleList(one_round(conv, hidden, conv_settings) for _ in range(rounds))
        self.job_norm, self.whole_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.job_layers = mlp(job + 1 + stage + len(self.paths) + hidden, hidden)
        self.whole_layers = mlp(4 + stage + hidden, hidden)

    def forward(
        self, cluster: Cluster
    ) -> tuple[
        Float[Tensor, "stage hidden"], Float[Tensor, "job hidden"], Float[Tensor, "step hidden"]
    ]:
        """Embeddings of all stages, jobs and steps."""
        stages = self._stages(cluster)
        columns = pooled(cluster.stages, cluster.stage_job, len(cluster.jobs))
        jobs = self._jobs(cluster, stages, columns)
        return stages, jobs, self._whole(cluster, jobs, columns)

    def _stages(self, cluster: Cluster) -> Tensor:
        demand = cluster.stages[:, self.stage_columns.names.index("demand")]
        share = demand / cluster.executors.index_select(0, cluster.stage_step)
        extra = torch.stack([cluster.frontier, cluster.schedulable, share], -1)
        stages: Tensor = self.stage_layers(
            torch.cat([self.stage_columns(cluster.stages), extra], -1)
        )
        from_child = cluster.edges.T.flip(0)  # (child, parent), as torch-geometric has them
        for layer in self.rounds:
            stages = layer(stages, from_child)
        return stages

    def _jobs(self, cluster: Cluster, stages: Tensor, columns: Tensor) -> Tensor:
        index, size = cluster.stage_job, len(cluster.jobs)
        supply = cluster.jobs[:, self.job_columns.names.index("supply")]
        share = supply / cluster.executors.index_select(0, cluster.job_step)
        longest = pooled(cluster.stages, index, size, "max")
        features = [
            self.job_columns(cluster.jobs),
            share[:, None],
            self.stage_columns.sums(columns),
            self.stage_columns(longest)[:, self.paths],
            self.job_norm(pooled(stages, index, size)),
        ]
        jobs: Tensor = self.job_layers(torch.cat(features, -1))
        return jobs

    def _whole(self, cluster: Cluster, jobs: Tensor, columns: Tensor) -> Tensor:
        size = len(cluster.executors)
        counts = [
            torch.bincount(index, minlength=size)
            for index in (cluster.job_step, cluster.stage_step)
        ]
        share = cluster.committable / cluster.executors
        features = [
            torch.stack([share, cluster.can_wait], -1),
            torch.stack(counts, -1).log1p(),
            self.stage_columns.sums(pooled(columns, cluster.job_step, size)),
            self.whole_norm(pooled(jobs, cluster.job_step, size)),
        ]
        whole: Tensor = self.whole_layers(torch.cat(features, -1))
        return whole
