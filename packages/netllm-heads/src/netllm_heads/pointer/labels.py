"""The answers that a label of cluster job scheduling gives, and their weights."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from netllm_heads.categorical import NO_LABEL
from netllm_heads.pointer.choices import Choices


class Labels(NamedTuple):
    """Answers to be learned, those of all steps under one another."""

    step: Int[Tensor, "answer"]
    choice: Int[Tensor, "answer"]
    executors: Int[Tensor, "answer"]
    weight: Float[Tensor, "answer"]


def labelled(label: Tensor, choices: Choices) -> Labels:
    """The answers of a label, hard or weighed, that count.

    Raises:
        ValueError: If they have another shape, or one is impossible in its step.
    """
    soft = label.is_floating_point() and label.ndim == 4
    if label.shape[:2] != choices.shape or label.shape[-1] != 2 + soft or label.ndim != 3 + soft:
        raise ValueError(
            f"`label` must have shape {(*choices.shape, 2)}, which of the schedulable stages and "
            "how many executors, or be floats (batch, step, answer, 3), each answer with its "
            f"weight, got {tuple(label.shape)}."
        )
    answers = (label if soft else label[:, :, None]).flatten(0, 1)
    choice, executors = answers[..., :2].long().unbind(-1)
    weight = answers[..., 2].float() if soft else (choice != NO_LABEL).float()
    wrong = ~(weight.isfinite() & (weight >= 0))
    if bool(wrong.any()):
        raise ValueError(
            f"a label's weight must be finite and at least 0, got {float(weight[wrong][0])}."
        )
    known = (weight > 0) & (choices.counts > 0)[:, None]
    rows = Labels(known.nonzero()[:, 0], choice[known], executors[known], weight[known])
    choices.check(rows.step, rows.choice, "a label")
    choices.check_waits(rows.step, rows.choice)
    return rows
