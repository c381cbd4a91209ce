"""Policies, and what they answer: all flows of some hosts on some days."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from netllm_sims.flows.limits import NONE
from netllm_sims.flows.table import Flows
from netllm_sims.session_error import SessionError

if TYPE_CHECKING:
    from netllm_sims.flows.settings import Setting

_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class HostDay:
    """The flows of one host on one day: the unit of results."""

    id: str
    """Host and day, as `host007/day12`."""
    host: str
    day: str
    flows: Flows
    contents: frozenset[str]
    """Digest of these flows: who learned from them knows them."""


@runtime_checkable
class Policy(Protocol):
    """Anything that says which class flows belong to.

    The observation holds `sizes_bytes` and `gaps_ms` (batch, packet), `protocol` and `server_port`
    (batch,), and `statistics` (batch, statistic) where the setting has some: see `Flows`.
    """

    def reset(self, seed: int) -> None:
        """Forget everything; random choices follow `seed`."""

    def act(
        self, observation: Mapping[str, ndarray]
    ) -> Float[ndarray, "batch class"] | Int[ndarray, "batch"]:
        """Probabilities of the setting's `classes`, or the numbers of classes.

        What probabilities lack of 1 is that of none of these classes, and so is the number -1.
        """
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Answers:
    """What a policy said about the flows of one host on one day."""

    truth: Int[ndarray, "flow"]
    """Numbers of the right classes; `NONE` where training never saw it."""
    answer: Int[ndarray, "flow"]
    """Numbers of the answered classes; `NONE` for none of them."""
    confidence: Float[ndarray, "flow"]
    """Probability of the most probable class."""
    benign: Bool[ndarray, "flow"]
    """Which are no attacks."""
    alarm: Bool[ndarray, "flow"]
    """Which are answered with an attack."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Classified:
    """Answers of one policy."""

    answers: list[Answers]
    """One per host and day."""
    seconds: float
    """Wall time of the policy's answers."""
    decisions: int
    """Flows that it was asked about."""


def rollout(
    policy: Policy,
    setting: "Setting",
    episodes: Sequence[HostDay],
    *,
    seed: int = 0,
    batch: int = 1_024,
) -> Classified:
    """Answers of `policy` about every flow of some hosts and days, after one reset.

    Args:
        policy: Answers.
        setting: Says which classes there are, and which of them are attacks.
        episodes: Hosts and days.
        seed: Of the policy's random choices.
        batch: Flows that are asked about at once, also of several episodes.

    Raises:
        SessionError: An answer is not finite, or no distribution or class, with its episode.
        ValueError: No episodes, no batch, or an answer of another shape.
    """
    from netllm_sims.flows.table import joined

    if not episodes or batch < 1:
        raise ValueError(
            f"There must be at least one episode and a `batch` of at least 1, got {len(episodes)} "
            f"and {batch}."
        )
    flows = joined([one.flows for one in episodes])
    policy.reset(seed)
    given, seconds = [], 0.0
    for begin in range(0, len(flows), batch):
        seen = flows[begin : begin + batch].observation()
        start = time.perf_counter()
        said = policy.act(seen)
        seconds += time.perf_counter() - start
        given.append(_distribution(said, (len(seen["protocol"]), len(setting.classes)), policy))
    probabilities = np.concatenate(given)
    sizes = [len(one.flows) for one in episodes]
    owner = np.repeat([one.id for one in episodes], sizes)
    _check(probabilities, owner, policy)
    answers = _compared(probabilities, flows, setting)
    ends = np.cumsum(sizes)
    pieces = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return Classified(
        answers=[Answers(**{name: one[some] for name, one in answers.items()}) for some in pieces],
        seconds=seconds,
        decisions=len(flows),
    )


def _distribution(said: object, shape: tuple[int, int], policy: Policy) -> ndarray:
    """The answer as probabilities."""
    name = type(policy).__name__
    values = np.asarray(said)
    if values.shape == shape[:1] and values.dtype.kind in "iu":
        if values.min(initial=0) < NONE or values.max(initial=0) >= shape[1]:
            raise ValueError(
                f"{name}.act must return numbers of classes in [{NONE}, {shape[1] - 1}], got "
                f"{values.min()} to {values.max()}."
            )
        return (values[:, None] == np.arange(shape[1])).astype(float)
    if values.shape != shape or values.dtype.kind != "f":
        raise ValueError(
            f"{name}.act must return probabilities of shape {shape} (batch, class), or a whole "
            f"number for each flow, got {values.dtype} of shape {values.shape}. Was it made for "
            "other classes?"
        )
    return values.astype(float)


def _check(probabilities: ndarray, owner: ndarray, policy: Policy) -> None:
    total = probabilities.sum(axis=1)
    fine = (probabilities >= 0).all(axis=1) & (total <= 1 + _ROUNDING)
    if not fine.all():
        row = int(fine.argmin())
        raise SessionError(
            f"{type(policy).__name__}.act must give each flow probabilities >= 0 that add up to "
            f"at most 1, got {probabilities[row]!s:.80} for one of `{owner[row]}`.",
            session=str(owner[row]),
            field="answer",
        )


def _compared(probabilities: ndarray, flows: Flows, setting: "Setting") -> dict[str, ndarray]:
    """The answers beside the truth, of all flows."""
    numbers = {name: number for number, name in enumerate(setting.classes)}
    rest = 1 - probabilities.sum(axis=1)
    best = probabilities.argmax(axis=1)
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    answer = np.where(rest > confidence, NONE, best)
    attacks = np.array([not setting.is_benign(name) for name in setting.classes])
    return {
        "truth": np.array([numbers.get(name, NONE) for name in flows.label.tolist()], np.int64),
        "answer": answer,
        "confidence": confidence,
        "benign": np.array([setting.is_benign(name) for name in flows.label.tolist()], bool),
        "alarm": (answer != NONE) & attacks[answer],
    }
