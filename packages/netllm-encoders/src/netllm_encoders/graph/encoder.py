"""The tokens of one decision of cluster job scheduling, with any number of stages."""

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from netllm_encoders.graph.columns import Columns
from netllm_encoders.graph.convolutions import (
    Convolution,
    is_own,
    name_of,
    require_torch_geometric,
)
from netllm_encoders.graph.embeddings import Levels
from netllm_encoders.graph.mlp import mlp
from netllm_encoders.graph.observation import Cluster, choices, offsets_of, step_shape
from netllm_encoders.projection import Projection
from netllm_encoders.scalar import Scalar

_log = logging.getLogger(__name__)
_OWN = (
    "A checkpoint cannot name the convolution %s. To read one again, give the convolution in a "
    "class of encoders of your own: from_pretrained(FOLDER, parts=[CLASS])."
)
_AROUND = 3  # tokens of a step besides its stages: return-to-go, globals, decision

_TOKENS = ("return", "globals", "stage", "decision", "action")
"""Kinds of tokens, each with a projection of its own."""


class Graph(nn.Module):
    """The tokens of a scheduling decision: return-to-go, globals, schedulable stages, decision.

    An observation describes the jobs as DAGs of stages. A ragged field is a pair `(values, ptr)`:
    the rows of all steps under one another, and where each step's rows begin, and the end.

    | field | values | |
    |---|---|---|
    | `stages`, `jobs` | `(rows, columns)` | ragged, columns as declared |
    | `edges` | `(rows, 2)` | ragged; (parent, child), rows among the step's stages |
    | `stage_job` | `(rows,)` | ragged; row among the step's jobs |
    | `schedulable`, `frontier` | `(rows,)` | ragged, bool, per stage |
    | `committable`, `executors`, `can_wait` | `(batch, step)` | executors to give, of the cluster |

    Every stage's features pass an MLP and then `rounds` rounds of messages from children to
    parents. Jobs are an MLP of their features and of the sum of their stages, the whole one of its
    features and of the sum of its jobs; sums are layer-normed, and their size enters as the
    logarithm of summed columns. A stage's token is made from stage, job and whole. A step without
    a schedulable stage, padding say, has no tokens.

    Args:
        width: The backbone's embedding width.
        stage_columns: Per column of `stages`, in order, its `scale` and `log`, see
            `scalar.scaled`. `demand`, the executors a stage can still use, must be among them; of
            `path_ms` a job's maximum is taken too.
        job_columns: The same for `jobs`; `supply` must be among them.
        return_scale: Divides the return-to-go; in the reward's unit.
        hidden: Number of features of stages, jobs and the whole.
        rounds: Rounds of messages: how many levels of the DAG a stage sees.
        conv: How a stage learns of its children in a round: "decima" (a sum of messages), "gin",
            "gat" or "sage"; the name of a layer of `torch_geometric.nn`, "GATv2Conv" say, or a
            class, built as `conv(hidden, hidden, **conv_settings)`; or a function, called as
            `conv(hidden)`, that makes a layer. A layer is called as `layer(stages, edges)` with
            edges (child, parent).
        conv_settings: Settings of the layer, {"heads": 4, "concat": False} say.
        gain: Standard deviation within a token vector at the start, see `Projection`.

    A checkpoint names the convolution and holds no code. With a class or function of your own,
    make a class of encoders of your own that gives it, and read the checkpoint with that one:
    `from_pretrained(FOLDER, parts=[MyGraph])`.

    Raises:
        ValueError: If a column's setting is unknown or out of range, a needed column is missing,
            or the convolution is unknown or cannot be used so.
        ModuleNotFoundError: If torch-geometric, the extra `graph`, is not installed.

    Source: Decima (Mao et al., SIGCOMM 2019), section 5.1, for messages from children to parents
    and the levels stage, job, whole; NetLLM (Wu et al., SIGCOMM 2024), section 4.1. Residual
    rounds over all stages at once, in place of one pass level by level, and the logarithms of
    summed columns are ours.
    """

    tokens = None
    """Tokens per step: they differ, see `count`."""

    def __init__(
        self,
        *,
        width: int,
        stage_columns: Mapping[str, Mapping[str, Any]],
        job_columns: Mapping[str, Mapping[str, Any]],
        return_scale: float = 1.0,
        hidden: int = 128,
        rounds: int = 2,
        conv: Convolution = "decima",
        conv_settings: Mapping[str, Any] | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        _check_sizes(width, hidden, rounds)
        require_torch_geometric()
        settings = dict(conv_settings or {})
        config: dict[str, Any] = {"width": width, "hidden": hidden, "rounds": rounds}
        config |= {"stage_columns": dict(stage_columns), "job_columns": dict(job_columns)}
        config |= {"conv": name_of(conv), "conv_settings": settings}
        self._config = copy.deepcopy(config | {"return_scale": return_scale, "gain": gain})
        if type(self) is Graph and is_own(conv):
            _log.warning(_OWN, name_of(conv))
        self.width = width
        stage = Columns("stage_columns", stage_columns)
        job = Columns("job_columns", job_columns)
        self._demand = _column(stage, "stage_columns", "demand")
        self._supply = _column(job, "job_columns", "supply")
        self.levels = Levels(
            stage, job, hidden=hidden, rounds=rounds, conv=conv, conv_settings=settings
        )
        self.return_encoder = Scalar(hidden=hidden, scale=return_scale)
        self.stage_layers = mlp(3 * hidden, hidden)
        self.action_layers = mlp(len(stage.names) + len(job.names) + 4, hidden)
        self.none = nn.Parameter(torch.randn(hidden))
        self.projections = nn.ModuleDict(
            {name: Projection(hidden=hidden, width=width, gain=gain) for name in _TOKENS}
        )

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Graph(**config)` is the same encoder with new weights."""
        return copy.deepcopy(self._config)

    def count(self, observation: Mapping[str, Any]) -> Int[Tensor, "batch step"]:
        """Tokens of every step: schedulable stages + 3, or none if no stage is schedulable.

        Raises:
            ValueError: If a field is missing or does not fit the steps.
        """
        batch, step = step_shape(observation)
        return _counts(choices(observation, batch * step)).view(batch, step)

    def observe(
        self, observation: Mapping[str, Any], return_to_go: Num[Tensor, "batch step"]
    ) -> tuple[Float[Tensor, "token width"], Int[Tensor, "offset"]]:
        """Tokens of all steps under one another, and where each step's begin, and the end.

        Per step: return-to-go, globals, one per schedulable stage in the order of the rows,
        decision.

        Args:
            observation: The fields above; values finite (not checked).
            return_to_go: Sum of the rewards that are to come, in the reward's unit.

        Raises:
            ValueError: If a field is missing, has other columns or does not fit the steps.
        """
        cluster = self._read(observation)
        if return_to_go.shape != cluster.shape:
            raise ValueError(
                f"the return-to-go must have as many rows and steps as 'committable', "
                f"{cluster.shape}, got {tuple(return_to_go.shape)}."
            )
        stages, jobs, whole = self.levels(cluster)
        counts = _counts(cluster.chosen_ptr)
        active, ptr = counts.nonzero()[:, 0], offsets_of(counts)
        begin, end = ptr[:-1].index_select(0, active), ptr[1:].index_select(0, active)
        rows = cluster.schedulable.nonzero()[:, 0]
        step = cluster.stage_step.index_select(0, rows)
        job = cluster.stage_job.index_select(0, rows)
        levels = zip((stages, jobs, whole), (rows, job, step), strict=True)
        chosen = self.stage_layers(torch.cat([x.index_select(0, i) for x, i in levels], -1))
        whole = whole.index_select(0, active)
        to_go = self.return_encoder(return_to_go).flatten(0, 1).index_select(0, active)
        features = {"return": to_go, "globals": whole, "stage": chosen, "decision": whole}
        vectors = torch.cat([self.projections[k](x[None])[:, 0] for k, x in features.items()])
        order = torch.arange(len(rows), device=rows.device)
        shift = (ptr - cluster.chosen_ptr).index_select(0, step) + 2
        places = torch.cat([begin, begin + 1, order + shift, end - 1])
        return torch.empty_like(vectors).index_copy(0, places, vectors), ptr

    def act(
        self, action: Int[Tensor, "batch step 2"], observation: Mapping[str, Any]
    ) -> Float[Tensor, "batch step 1 width"]:
        """The action token of every step, from what was chosen and never from its index.

        Args:
            action: Which of the step's schedulable stages, -1 for none; and how many executors,
                taken within 1 and what the stage can use and the step can give. Without effect
                where a step has no schedulable stage.
            observation: As for `observe`.

        Raises:
            ValueError: As `observe` does, or if an action chooses a stage that is not there.
        """
        cluster = self._read(observation)
        choice, executors = action.flatten(0, 1).long().unbind(-1)
        counts = cluster.chosen_ptr.diff()
        _check_choice(choice, counts, cluster.shape)
        step = ((counts > 0) & (choice >= 0)).nonzero()[:, 0]
        place = cluster.chosen_ptr.index_select(0, step) + choice.index_select(0, step)
        row = cluster.schedulable.nonzero()[:, 0].index_select(0, place)
        features = self._action(cluster, row, step, executors.index_select(0, step))
        none = self.none.to(features.dtype).expand(len(choice), -1)
        vectors: Tensor = self.projections["action"](none.index_copy(0, step, features)[None])
        return vectors.view(*cluster.shape, 1, self.width)

    def _read(self, observation: Mapping[str, Any]) -> Cluster:
        return Cluster.read(
            observation,
            stage_columns=len(self.levels.stage_columns.names),
            job_columns=len(self.levels.job_columns.names),
        )

    def _action(self, cluster: Cluster, row: Tensor, step: Tensor, executors: Tensor) -> Tensor:
        stages = cluster.stages.index_select(0, row)
        jobs = cluster.jobs.index_select(0, cluster.stage_job.index_select(0, row))
        total, committable = cluster.executors[step], cluster.committable[step]
        demand, supply = stages[:, self._demand], jobs[:, self._supply]
        limit = torch.minimum(demand.long(), committable).clamp(min=1)
        granted = torch.minimum(executors.clamp(min=1), limit)
        shares = [demand / total, supply / total, granted / total, granted / limit]
        columns = [self.levels.stage_columns(stages), self.levels.job_columns(jobs)]
        features: Tensor = self.action_layers(torch.cat([*columns, torch.stack(shares, -1)], -1))
        return features


def _check_sizes(width: int, hidden: int, rounds: int) -> None:
    if min(width, hidden) < 1 or rounds < 0:
        raise ValueError(
            "`width` and `hidden` must be at least 1, and `rounds` at least 0, "
            f"got {width}, {hidden} and {rounds}."
        )


def _check_choice(choice: Tensor, counts: Tensor, shape: tuple[int, int]) -> None:
    wrong = (counts > 0) & ((choice < -1) | (choice >= counts))
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise ValueError(
            f"an action must choose one of the step's {int(counts[index])} schedulable stages, "
            f"from 0, or -1 for none, got {int(choice[index])} in row {index // shape[1]}, step "
            f"{index % shape[1]}."
        )


def _counts(chosen_ptr: Tensor) -> Tensor:
    counts = chosen_ptr.diff()
    return torch.where(counts > 0, counts + _AROUND, 0)


def _column(columns: Columns, table: str, name: str) -> int:
    if name not in columns.names:
        raise ValueError(
            f"`{table}` must declare the column {name!r}, got {', '.join(columns.names)}."
        )
    return columns.names.index(name)
