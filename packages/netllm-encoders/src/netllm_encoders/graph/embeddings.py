"""Embeddings of stages, of jobs and of the whole cluster, from the bottom up."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from netllm_encoders.graph.columns import Columns
from netllm_encoders.graph.observation import Cluster


def mlp(features: int, hidden: int) -> nn.Sequential:
    """Two linear maps with a GELU between them."""
    return nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden))


def sums(rows: Tensor, owner: Int[Tensor, "row"], owners: int) -> Tensor:
    """The sum of every owner's rows."""
    return rows.new_zeros(owners, rows.shape[1]).index_add_(0, owner, rows)


class Round(nn.Module):
    """One round of messages: a stage learns of its children."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.message = mlp(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.update = mlp(2 * hidden, hidden)

    def forward(
        self, stages: Float[Tensor, "stage hidden"], edges: Int[Tensor, "edge 2"]
    ) -> Float[Tensor, "stage hidden"]:
        """The stages, each with what the sum of its children's messages adds to it."""
        parent, child = edges.unbind(-1)
        messages = self.message(stages).index_select(0, child)
        summed = sums(messages, parent, len(stages))
        updated: Tensor = stages + self.update(torch.cat([stages, self.norm(summed)], -1))
        return updated


class Levels(nn.Module):
    """Embeddings of stages, then of jobs, then of the whole of every step.

    Args:
        stage_columns: Of `stages`; with `demand`, and perhaps `path_ms`.
        job_columns: Of `jobs`; with `supply`.
        hidden: Number of features.
        rounds: Rounds of messages.
    """

    def __init__(
        self, stage_columns: Columns, job_columns: Columns, *, hidden: int, rounds: int
    ) -> None:
        super().__init__()
        self.stage_columns, self.job_columns = stage_columns, job_columns
        stage, job = len(stage_columns.names), len(job_columns.names)
        self.paths = [i for i, name in enumerate(stage_columns.names) if name == "path_ms"]
        self.stage_layers = mlp(stage + 3, hidden)
        self.rounds = nn.ModuleList(Round(hidden) for _ in range(rounds))
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
        columns = sums(cluster.stages, cluster.stage_job, len(cluster.jobs))
        jobs = self._jobs(cluster, stages, columns)
        return stages, jobs, self._whole(cluster, jobs, columns)

    def _stages(self, cluster: Cluster) -> Tensor:
        demand = cluster.stages[:, self.stage_columns.names.index("demand")]
        share = demand / cluster.executors.index_select(0, cluster.stage_step)
        extra = torch.stack([cluster.frontier, cluster.schedulable, share], -1)
        stages: Tensor = self.stage_layers(
            torch.cat([self.stage_columns(cluster.stages), extra], -1)
        )
        for layer in self.rounds:
            stages = layer(stages, cluster.edges)
        return stages

    def _jobs(self, cluster: Cluster, stages: Tensor, columns: Tensor) -> Tensor:
        index, size = cluster.stage_job, len(cluster.jobs)
        supply = cluster.jobs[:, self.job_columns.names.index("supply")]
        share = supply / cluster.executors.index_select(0, cluster.job_step)
        stage_columns = cluster.stages.shape[1]
        longest = cluster.stages.new_zeros(size, stage_columns).scatter_reduce(
            0, index[:, None].expand(-1, stage_columns), cluster.stages, "amax"
        )
        features = [
            self.job_columns(cluster.jobs),
            share[:, None],
            self.stage_columns.sums(columns),
            self.stage_columns(longest)[:, self.paths],
            self.job_norm(sums(stages, index, size)),
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
            self.stage_columns.sums(sums(columns, cluster.job_step, size)),
            self.whole_norm(sums(jobs, cluster.job_step, size)),
        ]
        whole: Tensor = self.whole_layers(torch.cat(features, -1))
        return whole
