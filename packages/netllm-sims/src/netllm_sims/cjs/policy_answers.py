"""What policies answer, checked before it is followed or kept."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

if TYPE_CHECKING:
    from netllm_sims.cjs.simulator import Simulator


def actions(given: object, batch: int, who: str = "`act`") -> Int[ndarray, "batch 2"]:
    """Choices and executors; a copy, for policies may reuse their arrays.

    Raises:
        ValueError: They are no whole numbers, or not two for each episode.
    """
    return _shaped(given, (batch, 2), "iu", f"{who} must give whole numbers (choice, executors)")


def labels(
    given: ndarray, batch: int, *, soft: bool
) -> Int[ndarray, "batch 2"] | Float[ndarray, "batch answer 3"]:
    """What a labelling policy answered: its actions, or if `soft` several answers with weights.

    Raises:
        ValueError: They have another type or shape; `check` looks at the numbers.
    """
    if not soft:
        return actions(given, batch, "`act` of the label")
    several = max(1, given.shape[1]) if given.ndim == 3 else 1
    what = "`weighed` of the label must give floats, at least one (choice, executors, weight)"
    return _shaped(given, (batch, several, 3), "f", what)


def check(simulator: "Simulator", label: Int[ndarray, "2"] | Float[ndarray, "answer 3"]) -> None:
    """Raise unless `step` would take the answer, or each of those with a weight above 0.

    Raises:
        ValueError: It would not, or a weight is negative or not finite.
    """
    if label.ndim == 1:
        simulator.check(*label.tolist())
        return
    whole = np.isfinite(label).all(1) & (label[:, :2] == np.floor(label[:, :2])).all(1)
    wrong = ~whole | (label[:, 2] < 0)
    if wrong.any():
        raise ValueError(
            "an answer must be whole numbers (choice, executors) and a finite weight >= 0, "
            f"got {label[wrong][0].tolist()}."
        )
    for choice, executors, weight in label.tolist():
        if weight > 0:
            simulator.check(int(choice), int(executors))


def _shaped(given: object, shape: tuple[int, ...], kinds: str, what: str) -> ndarray:
    answers = np.array(given)
    if answers.shape != shape or answers.dtype.kind not in kinds:
        raise ValueError(
            f"{what} for each of {shape[0]} episodes, got {answers.dtype} of shape {answers.shape}."
        )
    return answers
