"""Policies, and what they earn: whole episodes of one policy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import DTypeLike

from netllm_sims.cc.links import Link
from netllm_sims.cc.simulator import FACTORS, UNLIMITED, Observation, Simulator, nearest
from netllm_sims.rollout import Environment, Options, Policy, play

if TYPE_CHECKING:
    from netllm_sims.cc.settings import Setting

__all__ = ["Policy", "Senders", "rollout"]

_LATE = 95


class Senders(Environment):
    """Senders, one on each link, that run side by side, interval by interval.

    An action is that of `Simulator`: an index of `FACTORS`, or a rate and a window. Where `indices`
    is set, and in labels, the latter become the closest factor, so that a model can learn them.

    Args:
        setting: The setting that the links belong to.
        links: What to play.
        dtype: Of observations and rewards.
        indices: Whether rates and windows become factors.
    """

    answers = len(FACTORS)

    def __init__(
        self,
        setting: "Setting",
        links: Sequence[Link],
        *,
        dtype: DTypeLike = np.float64,
        indices: bool = False,
    ) -> None:
        self._simulator = Simulator(links, setting.intervals, dtype=dtype)
        self._simulator.reset()
        self._indices = indices
        names = ("reward", "sent_mbps", "throughput_mbps", "rtt_ms", "lost_mbps")
        self._columns: dict[str, list[ndarray]] = {name: [] for name in names}

    def observation(self) -> Observation:
        """That of `Simulator`; the next step reuses the arrays."""
        return self._simulator.observation

    def step(self, actions: ndarray) -> tuple[Float[ndarray, "batch"], bool]:
        """Send through the next interval on every link."""
        seen, reward, over = self._simulator.step(actions)
        self._columns["reward"].append(reward)
        self._columns["lost_mbps"].append(self._simulator.lost_mbps)
        for name in ("sent_mbps", "throughput_mbps", "rtt_ms"):
            self._columns[name].append(seen[name][:, -1].copy())
        return reward, bool(over[0])

    def column(self, name: str) -> Float[ndarray, "link interval"]:
        """What every interval so far brought: `reward`, `sent_mbps`, `rtt_ms` and the like."""
        return np.stack(self._columns[name], axis=1)

    def figures(self) -> dict[str, Float[ndarray, "link"]]:
        """Utility, throughput, 95th percentile of the round trips, share lost, Jain's index."""
        sent, lost = self.column("sent_mbps").sum(axis=1), self.column("lost_mbps").sum(axis=1)
        return {
            "utility": self.column("reward").mean(axis=1),
            "throughput_mbps": self.column("throughput_mbps").mean(axis=1),
            "rtt95_ms": np.percentile(self.column("rtt_ms"), _LATE, axis=1),
            "loss": lost / np.maximum(sent, 1e-9),
            "fairness": self._simulator.fairness(),
        }

    def running(self) -> Simulator:
        """The simulator, for policies that know the capacity."""
        return self._simulator

    def check_actions(self, given: ndarray, episodes: Sequence[Link]) -> ndarray:
        """The actions; indices if only these are wanted."""
        return self._as_indices(given) if self._indices else given

    def check_labels(self, given: ndarray, episodes: Sequence[Link], *, soft: bool) -> ndarray:
        """The labels, as indices or their probabilities."""
        return super().check_labels(self._as_indices(given), episodes, soft=soft)

    def _as_indices(self, given: ndarray) -> Int[ndarray, "batch"] | ndarray:
        """The closest indices to rates and windows; others as they are."""
        if given.dtype.kind != "f" or given.shape != (len(self._simulator.links), 2):
            return given
        if not (given > 0).all():
            return given  # the simulator refuses it
        seen = self._simulator.observation
        rtt_ms = np.where(seen["rtt_ms"][:, -1] > 0, seen["rtt_ms"][:, -1], seen["min_rtt_ms"])
        return nearest(np.minimum(given, UNLIMITED), seen["rate_mbps"], rtt_ms)


def rollout(
    policy: Policy, setting: "Setting", links: Sequence[Link], *, seed: int = 0
) -> dict[str, Float[ndarray, "link"]]:
    """The figures of every link under `policy`, see `Senders.figures`.

    Args:
        policy: Chooses factors, or rates and windows.
        setting: The setting that the links belong to.
        links: What to play.
        seed: Of the policy.

    Raises:
        SessionError: A policy's answer to one link is NaN or infinite, with link and field.
        ValueError: No links, or an action that is none.
    """
    batches = play(policy, lambda some, _: Senders(setting, some), links, Options(seed))
    figures = [batch.environment.figures() for batch in batches]
    return {name: np.concatenate([one[name] for one in figures]) for name in figures[0]}
