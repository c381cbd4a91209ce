"""One answer out of a fixed number."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Generator, Tensor, nn

NO_LABEL = -100
"""Label of a step that has none: its loss is zero. The value is torch's `ignore_index`."""


class Categorical(nn.Module):
    """One answer per step out of a fixed number, read from the step's last hidden state.

    Of a model that answers each observation by itself the states are (batch, width), and masks,
    labels and answers have no axis of steps.

    Logits are a layer norm and a linear map of that state, with a hidden layer between them if
    asked for. Where a mask says that an answer is invalid its logit is -inf, so its probability is
    exactly zero, for greedy and for sampled answers.

    Args:
        width: The backbone's width.
        answers: Number of answers, the rates of a ladder say.
        mask: Field of the observation, shape `(batch, step, answers)`, that is true where an answer
            is valid; None if all always are.
        hidden: Width of the hidden layer; None for none.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.2, a linear head over the valid answers. The
    layer norm is ours: it keeps a head usable on backbones whose states differ in size.
    """

    reads = 1
    """Only the last token of an observation is read."""

    def __init__(
        self, *, width: int, answers: int, mask: str | None = None, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.width = width
        self.answers = answers
        self.mask = mask
        self.hidden = hidden
        between = [] if hidden is None else [nn.Linear(width, hidden), nn.GELU()]
        self.layers = nn.Sequential(
            nn.LayerNorm(width), *between, nn.Linear(hidden or width, answers)
        )

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Categorical(**config)` is the same head, new weights."""
        return {
            "width": self.width,
            "answers": self.answers,
            "mask": self.mask,
            "hidden": self.hidden,
        }

    def distribution(
        self, hidden: Float[Tensor, "batch *token width"], observation: Mapping[str, Any]
    ) -> Float[Tensor, "batch *step answers"]:
        """Logits of the answers in float32, -inf where an answer is invalid.

        Raises:
            ValueError: If `hidden` has another width, or the mask's field is missing, has another
                shape, or leaves a step without a valid answer.
        """
        valid = self._valid(hidden, observation)
        if valid is not None and not bool(valid.any(-1).all()):
            where = _place((~valid.any(-1)).nonzero()[0].tolist())
            raise ValueError(
                f"`{self.mask}` must leave at least one valid answer at every step, got none in "
                f"{where}. Mask only answers that the environment would refuse."
            )
        return self._logits(hidden, valid)

    def answer(
        self,
        hidden: Float[Tensor, "batch *token width"],
        observation: Mapping[str, Any],
        *,
        greedy: bool = True,
        generator: Generator | None = None,
    ) -> Int[Tensor, "batch *step"]:
        """The most probable answer of every step, or one drawn from its distribution.

        Args:
            hidden: Hidden states of the steps' tokens.
            observation: Holds the mask's field, if there is a mask.
            greedy: Whether the most probable answer is given; the first of equal ones.
            generator: Source of the draws; torch's global one if None.

        Raises:
            ValueError: As `distribution` does, or if a hidden state is NaN.
        """
        logits = self.distribution(hidden, observation)
        if bool(logits.isnan().any()):
            raise ValueError("logits must be numbers, got NaN. Are the hidden states finite?")
        if greedy:
            return logits.argmax(-1)
        draws = torch.multinomial(logits.softmax(-1).flatten(0, -2), 1, generator=generator)
        return draws.view(logits.shape[:-1])

    def loss(
        self,
        hidden: Float[Tensor, "batch *token width"],
        observation: Mapping[str, Any],
        label: Num[Tensor, "batch *label"],
    ) -> Float[Tensor, "batch *step"]:
        """Cross-entropy of every step, in nats.

        Args:
            hidden: Hidden states of the steps' tokens.
            observation: Holds the mask's field, if there is a mask.
            label: Integers `(batch, step)`, the right answers; or floats `(batch, step, answers)`,
                their probabilities. A step without label has `NO_LABEL`, or zeros only; its loss is
                zero and its mask may be empty, so padded rows need no mask.

        Raises:
            ValueError: As `distribution` does for `hidden` and the mask's field, or if a label has
                another shape or gives probability to an invalid answer.
        """
        valid = self._valid(hidden, observation)
        target = self._target(label, _last(hidden).shape[:-1])
        if valid is not None:
            self._check_labels(target, valid)
            valid = valid | ~target.any(-1, keepdim=True)
        log_probability = self._logits(hidden, valid).log_softmax(-1)
        # The -inf of invalid answers times their target of zero would be nan.
        return -(target * log_probability.masked_fill(target == 0, 0)).sum(-1)

    def _logits(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            logits: Tensor = self.layers(_last(hidden).float())
        return logits if valid is None else logits.masked_fill(~valid, -torch.inf)

    def _valid(self, hidden: Tensor, observation: Mapping[str, Any]) -> Tensor | None:
        if hidden.ndim not in (2, 4) or hidden.shape[-1] != self.width:
            raise ValueError(
                f"`hidden` must have shape (batch, step, token, {self.width}) or (batch, "
                f"{self.width}), got {tuple(hidden.shape)}. Was the head built for another "
                "backbone?"
            )
        if self.mask is None:
            return None
        if self.mask not in observation:
            raise ValueError(
                f"the observation must hold the mask {self.mask!r}, got {', '.join(observation)}. "
                "Was the head built for another task?"
            )
        valid: Tensor = observation[self.mask].bool()
        shape = (*_last(hidden).shape[:-1], self.answers)
        if valid.shape != shape:
            raise ValueError(
                f"`{self.mask}` must have shape {shape}, "
                f"got {tuple(valid.shape)}. Does it have one entry per answer?"
            )
        return valid

    def _target(self, label: Tensor, steps: torch.Size) -> Tensor:
        soft = label.is_floating_point()
        shape = (*steps, self.answers) if soft else tuple(steps)
        if label.shape != shape:
            raise ValueError(
                f"{'float' if soft else 'integer'} labels must have shape {shape}, "
                f"got {tuple(label.shape)}. Integers name the answer, floats give probabilities."
            )
        if soft:
            wrong = ~(label.isfinite() & (label >= 0))
            if bool(wrong.any()):
                raise ValueError(
                    "a label's probabilities must be finite and at least 0, "
                    f"got {float(label[wrong][0])}."
                )
            return label.float()
        known = label != NO_LABEL
        wrong = known & ((label < 0) | (label >= self.answers))
        if bool(wrong.any()):
            raise ValueError(
                f"a label must lie between 0 and {self.answers - 1}, or be {NO_LABEL} for none, "
                f"got {int(label[wrong][0])}. Was the pool collected with another ladder?"
            )
        one_hot = nn.functional.one_hot(label.long() * known, self.answers)
        return (one_hot * known[..., None]).float()

    def _check_labels(self, target: Tensor, valid: Tensor) -> None:
        forbidden = (target * ~valid).nonzero()
        if len(forbidden):
            *place, answer = forbidden[0].tolist()
            raise ValueError(
                f"a label must be a valid answer, got {answer} in {_place(place)}, "
                f"which `{self.mask}` forbids. Do labels and masks come from the same step?"
            )


def _last(hidden: Float[Tensor, "batch *token width"]) -> Float[Tensor, "batch *step width"]:
    """The state of every step's last token."""
    return hidden if hidden.ndim == 2 else hidden[:, :, -1]


def _place(indices: Sequence[int]) -> str:
    """Where in a batch something is, in words."""
    return ", ".join(
        f"{name} {index}" for name, index in zip(("row", "step"), indices, strict=False)
    )
