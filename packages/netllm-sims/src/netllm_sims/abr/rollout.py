"""Policies, and what they earn: whole episodes of one policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import DTypeLike

from netllm_sims.abr.sessions import Session
from netllm_sims.abr.simulator import LIVE_FIELDS, Observation, Simulator
from netllm_sims.rollout import Batch, Environment, Options, Policy, play

if TYPE_CHECKING:
    from netllm_sims.abr.settings import Setting

__all__ = ["Players", "Policy", "Rollout", "rollout"]

_PARTS = ("bitrate_mbps", "rebuffer_s", "smoothness_mbps")


class Players(Environment):
    """Sessions that run side by side, chunk by chunk, and the parts of their QoE.

    Args:
        setting: The setting that the sessions belong to.
        sessions: What to play.
        seed: Of the delay noise.
        dtype: Of observations and rewards.
    """

    def __init__(
        self,
        setting: "Setting",
        sessions: Sequence[Session],
        *,
        seed: int = 0,
        dtype: DTypeLike = np.float64,
    ) -> None:
        self.answers = setting.video.levels
        self._simulator = Simulator(setting, sessions, dtype=dtype)
        self._simulator.reset(seed)
        self.parts = (*_PARTS, *LIVE_FIELDS) if setting.live else _PARTS
        self._columns: dict[str, list[ndarray]] = {name: [] for name in ("reward", *self.parts)}

    def observation(self) -> Observation:
        """That of `Simulator`; the next step reuses the arrays."""
        return self._simulator.observation

    def step(self, actions: Int[ndarray, "batch"]) -> tuple[Float[ndarray, "batch"], bool]:
        """Download the next chunk of every session at its level."""
        _, reward, over = self._simulator.step(actions)
        for name, values in {"reward": reward, **self._simulator.parts}.items():
            self._columns[name].append(values)
        return reward, bool(over[0])

    def column(self, name: str) -> Float[ndarray, "session step"]:
        """`reward` or a part of the QoE of every chunk decided so far."""
        return np.stack(self._columns[name], axis=1)

    def figures(self) -> dict[str, Float[ndarray, "session"]]:
        """QoE and its parts, each the mean over a session's decisions."""
        return {
            "qoe": self.column("reward").mean(axis=1),
            **{name: self.column(name).mean(axis=1) for name in self.parts},
        }

    def running(self) -> Simulator:
        """The simulator, for policies that know the whole session."""
        return self._simulator

    def check_actions(self, given: ndarray, episodes: Sequence[Session]) -> ndarray:
        """The levels as they are, for the simulator checks them."""
        return given


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
    live_latency_s: Float[ndarray, "episode step"] | None = None
    """How far playback is behind the live edge; None unless the setting is live."""
    speed: Float[ndarray, "episode step"] | None = None
    """Mean speed of playback; None unless the setting is live."""
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
    options = Options(seed, record, label, soft, epsilon, batch)
    batches = play(
        policy, lambda some, _: Players(setting, some, seed=seed, dtype=dtype), sessions, options
    )
    seconds, runs = 0.0, []
    for one in batches:
        seconds += one.seconds
        runs.append(_columns(one))
    joined = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    seen, last = (
        {name.removeprefix(kind): joined.pop(name) for name in [*joined] if name.startswith(kind)}
        for kind in (_SEEN, _FINAL)
    )
    ids = [session.id for session in sessions]
    return Rollout(ids=ids, seconds=seconds, observations=seen, final=last, **joined)


_SEEN, _FINAL = "seen ", "final "


def _columns(batch: Batch) -> dict[str, ndarray]:
    """What happened in sessions that ran side by side, (session, step, …) each."""
    players = batch.environment
    assert isinstance(players, Players)
    found = {"rewards": batch.rewards, "actions": batch.actions}
    if batch.labels:
        found["labels"] = batch.labels
    for name in batch.observations[0] if batch.observations else ():
        found[_SEEN + name] = [seen[name] for seen in batch.observations]
    columns = {name: np.stack(values, axis=1) for name, values in found.items()}
    columns |= {name: players.column(name) for name in players.parts}
    if batch.observations:
        columns |= {_FINAL + name: value.copy() for name, value in players.final().items()}
    return columns
