"""Distributions over any number of candidates per group, all groups under one another."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


def offsets(counts: Int[Tensor, "group"]) -> Int[Tensor, "offset"]:
    """Where every group begins, and the end."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def members(counts: Int[Tensor, "group"]) -> tuple[Int[Tensor, "row"], Int[Tensor, "row"]]:
    """The group of every row, and its place within the group."""
    group = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    begin = counts.cumsum(0) - counts
    return group, torch.arange(len(group), device=group.device) - begin.index_select(0, group)


def log_softmax(
    logits: Float[Tensor, "row"], group: Int[Tensor, "row"], groups: int
) -> Float[Tensor, "row"]:
    """Log-probabilities within every group, each with at least one finite logit."""
    top = logits.new_full((groups,), -torch.inf)
    top = top.scatter_reduce(0, group, logits.detach(), "amax")
    shifted = logits - top.index_select(0, group)
    total = shifted.new_zeros(groups).index_add(0, group, shifted.exp())
    return shifted - total.log().index_select(0, group)


def argmax(
    scores: Float[Tensor, "row"], group: Int[Tensor, "row"], groups: int
) -> Int[Tensor, "group"]:
    """Row of every group's highest score, the first of equal ones; len(scores) of no row.

    Raises:
        ValueError: If a score is NaN, of which none is the highest.
    """
    if bool(scores.isnan().any()):
        raise ValueError("scores must be numbers, got NaN. Are the hidden states finite?")
    top = scores.new_full((groups,), -torch.inf).scatter_reduce(0, group, scores, "amax")
    row = torch.arange(len(scores), device=scores.device)
    row = torch.where(scores == top.index_select(0, group), row, len(scores))
    return row.new_full((groups,), len(scores)).scatter_reduce(0, group, row, "amin")


def perturbed(scores: Float[Tensor, "row"], generator: Generator | None) -> Float[Tensor, "row"]:
    """Scores with Gumbel noise: their argmax is a draw from their softmax."""
    device = scores.device if generator is None else generator.device
    noise = torch.empty(scores.shape, dtype=torch.float64, device=device)
    return scores - noise.exponential_(generator=generator).log().to(scores)
