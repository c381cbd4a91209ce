"""Decima's extended network in torch, many decisions at a time (needs the extra `learned`)."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from netllm_baselines.cjs._decima_features import EXTENDED
from netllm_baselines.cjs.decima_weights import PERCEPTRONS, Weights

WIDTH = 16
"""Of the embeddings."""
_PREPARE, _MESSAGE, _UPDATE, _JOB, _WHOLE, _STAGE, _EXECUTORS = PERCEPTRONS


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """Decisions under one another, and what was decided; stages in order of falling depth."""

    x: Float[Tensor, "stage feature"]
    levels: list[tuple[Int[Tensor, "edge"], Int[Tensor, "edge"], int]]
    """From the deepest: of each edge to a parent there, the parent's number on the level and the
    child's row; and the stages of the level."""
    job: Int[Tensor, "stage"]
    job_decision: Int[Tensor, "job"]
    choices: Int[Tensor, "choice"]
    """Rows of the schedulable stages, decision by decision."""
    choice_decision: Int[Tensor, "choice"]
    chosen: Int[Tensor, "decision"]
    """Among all choices."""
    shares: Float[Tensor, "option 2"]
    """Each number of executors that a chosen stage could get: one less by those of the cluster,
    and it by the largest such number."""
    option_decision: Int[Tensor, "option"]
    picked: Int[Tensor, "decision"]
    """Among all options."""

    @property
    def decisions(self) -> int:
        """How many."""
        return len(self.chosen)


class Network(nn.Module):
    """The published layout with more inputs: seven perceptrons by their published names.

    Differences from the published network: 12 features of a stage; no messages along edges
    between a level's children; executors are scored given the stage, not only its job, at most
    its demand, and as a share of what it could get too.

    Args:
        hidden: First width of the perceptrons that embed.
        score_hidden: Width of those that score.
        generator: Draws the weights, uniform within one over the root of the inputs; biases are 0.
    """

    def __init__(self, *, hidden: int, score_hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        gnn, scores = (hidden, WIDTH, WIDTH), (score_hidden, score_hidden, 1)
        inputs = {
            _PREPARE: EXTENDED, _MESSAGE: WIDTH, _UPDATE: WIDTH, _JOB: EXTENDED + WIDTH,
            _WHOLE: WIDTH, _STAGE: EXTENDED + 3 * WIDTH, _EXECUTORS: EXTENDED + 3 * WIDTH + 2,
        }  # fmt: skip
        self.parts = nn.ModuleDict()
        for name, width in inputs.items():
            scoring = name in (_STAGE, _EXECUTORS)
            self.parts[name.replace(".", "/")] = _perceptron(
                width, scores if scoring else gnn, nn.Tanh() if scoring else nn.LeakyReLU(0.2),
                generator,
            )  # fmt: skip

    def part(self, name: str, x: Float[Tensor, "row feature"]) -> Float[Tensor, "row output"]:
        """One perceptron."""
        return self.parts[name.replace(".", "/")](x)

    def weights(self, **meta: object) -> Weights:
        """The parameters by their published names, ready to save."""
        arrays = {
            name.removeprefix("parts.").replace("/", "."): value.numpy().copy()
            for name, value in self.state_dict().items()
        }
        return Weights(arrays=arrays, meta=dict(meta))

    def forward(
        self, graphs: Graphs
    ) -> tuple[Float[Tensor, "decision"], Float[Tensor, "decision"]]:
        """Log-probability of what was decided, and the entropy of the choice and of its number."""
        h = self._embed(graphs)
        jobs = torch.zeros(len(graphs.job_decision), WIDTH)
        jobs = jobs.index_add(0, graphs.job, self.part(_JOB, torch.cat([graphs.x, h], 1)))
        whole = torch.zeros(graphs.decisions, WIDTH)
        whole = whole.index_add(0, graphs.job_decision, self.part(_WHOLE, jobs))
        stages = torch.cat([graphs.x, h, jobs[graphs.job]], 1)
        inputs = torch.cat([stages[graphs.choices], whole[graphs.choice_decision]], 1)
        log_all, spread = _softmax(
            self.part(_STAGE, inputs)[:, 0], graphs.choice_decision, graphs.decisions
        )
        log_each, spread_each = _softmax(
            self._executors(inputs[graphs.chosen], graphs), graphs.option_decision, graphs.decisions
        )
        return log_all[graphs.chosen] + log_each[graphs.picked], spread + spread_each

    def _embed(self, graphs: Graphs) -> Float[Tensor, "stage 16"]:
        start = self.part(_PREPARE, graphs.x)
        h, messages = start[:0], start[:0]
        for parents, children, count in graphs.levels:
            own = start[len(h) : len(h) + count]
            if len(parents):
                sums = torch.zeros(count, WIDTH).index_add(0, parents, messages[children])
                inner = torch.zeros(count, 1).index_fill(0, parents, 1.0)
                level = inner * own + self.part(_UPDATE, inner * sums + (1 - inner) * own)
            else:
                level = self.part(_UPDATE, own)
            h = torch.cat([h, level])
            messages = torch.cat([messages, self.part(_MESSAGE, level)])
        return h

    def _executors(self, given: Tensor, graphs: Graphs) -> Float[Tensor, "option"]:
        layers = cast(nn.Sequential, self.parts[_EXECUTORS.replace(".", "/")])
        first = cast(nn.Linear, layers[0])
        shared = given @ first.weight[:, :-2].T + first.bias
        hidden = shared[graphs.option_decision] + graphs.shares @ first.weight[:, -2:].T
        scores: Tensor = layers[1:](hidden)
        return scores[:, 0]


def _perceptron(
    inputs: int, widths: tuple[int, ...], bend: nn.Module, generator: torch.Generator
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        layer = nn.utils.skip_init(nn.Linear, inputs, width)
        bound = inputs**-0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer] if i == len(widths) - 1 else [layer, bend]
        inputs = width
    return nn.Sequential(*layers)


def _softmax(
    scores: Float[Tensor, "choice"], segment: Int[Tensor, "choice"], segments: int
) -> tuple[Float[Tensor, "choice"], Float[Tensor, "segment"]]:
    """Log-probabilities within segments, and the entropy of each."""
    top = torch.full((segments,), -torch.inf)
    top = top.scatter_reduce(0, segment, scores.detach(), "amax")
    shifted = scores - top[segment]
    total = torch.zeros(segments).index_add(0, segment, shifted.exp())
    log_all = shifted - total.log()[segment]
    entropy = torch.zeros(segments).index_add(0, segment, -log_all * log_all.exp())
    return log_all, entropy
