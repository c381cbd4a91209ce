"""Policies, and what they earn: whole episodes of one policy."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import DTypeLike

from netllm_sims.abr.sessions import Session
from netllm_sims.abr.simulator import Simulator
from netllm_sims.rollout_batches import batch_size, begin_batch
from netllm_sims.session_error import check_answers

if TYPE_CHECKING:
    from netllm_sims.abr.settings import Setting

_Labeller = Callable[[Mapping[str, ndarray]], ndarray]
_NEAR = 1e-3  # what probabilities in float16 may miss 1 by
_FINAL = "final "
_PARTS = ("bitrate_mbps", "rebuffer_s", "smoothness_mbps")


@runtime_checkable
class Policy(Protocol):
    """Anything that chooses the next chunk's level for a batch of sessions.

    Two optional attributes: `sequential = True` asks to be rolled out alone, session by session in
    order, with one reset (its published numbers depend on state carried across sessions);
    `begin(simulator)` is called after `reset` with the running simulator, for policies that may
    know the whole session.
    """

    def reset(self, seed: int) -> None:
        """Forget everything and begin new sessions; random choices follow `seed`."""

    def act(self, observation: Mapping[str, ndarray]) -> Int[ndarray, "batch"]:
        """Level of each session's next chunk; copy what you keep or change of the observation."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollout:
    """Episodes of one policy; arrays are (episode, decision)."""

    ids: list[str]
    """Session ids."""
    rewards: Float[ndarray, "episode step"]
    """QoE of each decided chunk, in Mbps."""
    bitrate_mbps: Float[ndarray, "episode step"]
    """Bitrate part."""
    rebuffer_s: Float[ndarray, "episode step"]
    """Rebuffering part, before its weight."""
    smoothness_mbps: Float[ndarray, "episode step"]
    """Change of bitrate, before its weight."""
    actions: Int[ndarray, "episode step"]
    """Levels chosen."""
    seconds: float
    """Wall time of policy and simulator together."""
    observations: dict[str, ndarray] = field(default_factory=dict)
    """What the policy saw, by field, (episode, step, …); empty unless recorded."""
    final: dict[str, ndarray] = field(default_factory=dict)
    """What is seen after the last decision, by field, (episode, …); empty unless recorded."""
    labels: Int[ndarray, "episode step"] | Float[ndarray, "episode step level"] | None = None
    """What the labelling policy would have chosen in each state, or with which probability."""

    @property
    def qoe(self) -> Float[ndarray, "episode"]:
        """Mean QoE of each episode over its decisions, in Mbps."""
        mean: ndarray = self.rewards.mean(axis=1)
        return mean


def rollout(
    policy: Policy,
    setting: "Setting",
    sessions: Sequence[Session],
    *,
    seed: int = 0,
    dtype: DTypeLike = np.float64,
    record: bool = False,
    label: Policy | None = None,
    soft: bool = False,
    epsilon: float = 0.0,
    batch: int | None = None,
) -> Rollout:
    """Episodes of `policy` on `sessions`, each played once to its end.

    Args:
        policy: Chooses the levels.
        setting: The setting that the sessions belong to.
        sessions: What to play.
        seed: Of the policies, the delay noise and the random actions.
        dtype: Of the observations and rewards.
        record: Keep the observations.
        label: A second policy, asked in every visited state without being followed.
        soft: Keep the label policy's `probabilities(observation)`, where it has them, and not
            its answers.
        epsilon: Share of actions replaced by uniformly random ones.
        batch: Sessions played at once; all by default, one for sequential policies. A policy that
            draws random numbers chooses differently under another batch size.

    Raises:
        SessionError: A policy's answer to one session is NaN or infinite, with session and field.
        ValueError: `epsilon` outside [0, 1], no sessions, a batch that does not fit, or a level or
            label that is none: labels are levels as the actions are, or else probabilities >= 0 of
            every level that sum to 1.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"`epsilon` must lie in [0, 1], got {epsilon}.")
    if not sessions:
        raise ValueError("`sessions` must hold at least one session, got none.")
    policies = [p for p in (policy, label) if p is not None]
    soft = soft and hasattr(label, "probabilities")
    labeller: _Labeller | None = getattr(label, "probabilities" if soft else "act", None)
    size = batch_size(policies, batch, len(sessions))
    runs = []
    start = time.perf_counter()
    for number, first in enumerate(range(0, len(sessions), size)):
        simulator = Simulator(setting, sessions[first : first + size], dtype=dtype)
        simulator.reset(seed)
        begin_batch(policies, simulator, seed=seed, number=number)
        rng = np.random.default_rng([seed, number, 1])
        runs.append(_play(simulator, policy, labeller, soft, epsilon, rng, record))
    seconds = time.perf_counter() - start
    return _joined(runs, [session.id for session in sessions], seconds)


def _joined(runs: Sequence[dict[str, ndarray]], ids: list[str], seconds: float) -> Rollout:
    """All batches as one."""
    joined = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    labels = joined.pop("labels", None)
    final = {name: joined.pop(_FINAL + name) for name in [*joined] if _FINAL + name in joined}
    parts = {name: joined.pop(name) for name in ("rewards", "actions", *_PARTS)}
    return Rollout(
        ids=ids, seconds=seconds, observations=joined, final=final, labels=labels, **parts
    )


def _play(
    simulator: Simulator,
    policy: Policy,
    label: _Labeller | None,
    soft: bool,
    epsilon: float,
    rng: np.random.Generator,
    record: bool,
) -> dict[str, ndarray]:
    observation = simulator.observation
    steps: dict[str, list[ndarray]] = {}
    levels, done = simulator.setting.video.levels, False
    while not done:
        if record:
            for name, value in observation.items():
                steps.setdefault(name, []).append(value.copy())
        action = np.asarray(policy.act(observation))
        check_answers(action, [session.id for session in simulator.sessions], "level")
        if label is not None:
            labels = np.array(label(simulator.observation))
            _check_labels(labels, simulator.sessions, levels, soft=soft)
            steps.setdefault("labels", []).append(labels)
        if epsilon > 0:
            random = rng.integers(levels, size=len(action))
            action = np.where(rng.random(len(action)) < epsilon, random, action)
        observation, reward, over = simulator.step(action)
        done = bool(over[0])
        for name, value in {"rewards": reward, "actions": action.copy(), **simulator.parts}.items():
            steps.setdefault(name, []).append(value)
    kept = {name: np.stack(values, axis=1) for name, values in steps.items()}
    if record:
        kept |= {_FINAL + name: value.copy() for name, value in observation.items()}
    return kept


def _check_labels(labels: ndarray, sessions: Sequence[Session], levels: int, *, soft: bool) -> None:
    shape = (len(sessions), levels) if soft else (len(sessions),)
    if labels.shape != shape or labels.dtype.kind not in ("f" if soft else "iu"):
        what = "one probability per session and level" if soft else "one integer level per session"
        raise ValueError(
            f"The label policy must answer with {what}, shape {shape}, "
            f"got {labels.dtype} of shape {labels.shape}."
        )
    if soft:
        what = "probabilities >= 0 that sum to 1"
        wrong = ~(abs(np.where(labels >= 0, labels, np.inf).sum(axis=1) - 1) <= _NEAR)
    else:
        what = f"a level between 0 and {levels - 1}"
        wrong = (labels < 0) | (labels >= levels)
    if wrong.any():
        b = int(wrong.argmax())
        raise ValueError(
            f"The label policy must answer with {what}, got {labels[b]} for session "
            f"`{sessions[b].id}`."
        )
