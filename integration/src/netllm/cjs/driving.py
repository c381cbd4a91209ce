"""Who decides while a pool of scheduling is collected, and the rule that is asked beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting, Simulator


class Advice:
    """What `tuned-share` would do: a compiled rule, so that asking it costs microseconds."""

    def __init__(self, setting: Setting) -> None:
        from netllm_baselines.cjs import TunedShare

        self._rule = TunedShare(setting)
        self._simulators: Sequence[Simulator] = ()

    def begin(self, simulators: Sequence[Simulator]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        self._simulators = simulators

    def __call__(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Choice among the schedulable stages (-1 none) and executors, per episode.

        Raises:
            RuntimeError: `begin` was not called.
        """
        if not self._simulators:
            raise RuntimeError("`begin` must be called with the simulators before `act`.")
        running = (self._simulators[k] for k in observation["episode"])
        return np.array([simulator.ask(self._rule) for simulator in running], np.int64)


class _Around:
    """A policy around another, which it begins and resets with itself."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.sequential = bool(getattr(policy, "sequential", False))

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        self._policy.reset(seed)

    def begin(self, simulators: Sequence[Simulator]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        _begin(self._policy, simulators)


class Noted(_Around):
    """Follows a policy, and notes what was advised in every state."""

    def __init__(self, policy: Any, setting: Setting) -> None:
        super().__init__(policy)
        self._ask = Advice(setting)
        self.advice: list[list[np.ndarray]] = []
        """Per episode its decisions'."""

    def begin(self, simulators: Sequence[Simulator]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        super().begin(simulators)
        self._first = len(self.advice)
        self.advice += [[] for _ in simulators]
        self._ask.begin(simulators)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The policy's answer."""
        for k, advised in zip(observation["episode"], self._ask(observation), strict=True):
            self.advice[self._first + k].append(advised)
        return np.asarray(self._policy.act(observation))


class Once(_Around):
    """Asks a policy once where it both acts and labels; rollouts take their time."""

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        if hasattr(policy, "weighed"):
            self.weighed = policy.weighed

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        super().reset(seed)
        self._seen: Any = None

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The policy's answer, the same to the same observation."""
        if self._seen is not observation:
            self._seen, self._answer = observation, np.asarray(self._policy.act(observation))
        return self._answer


class Mixed(_Around):
    """Follows one policy, and now and then another, so that states beside its path are seen."""

    def __init__(self, policy: Any, other: Any, epsilon: float) -> None:
        super().__init__(policy)
        self._other = other
        self._epsilon = epsilon

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        super().reset(seed)
        self._other.reset(seed)
        self._rng = np.random.default_rng([seed, 1])

    def begin(self, simulators: Sequence[Simulator]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        super().begin(simulators)
        _begin(self._other, simulators)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the policy would do, or, with a probability of epsilon, the other."""
        own, other = (np.asarray(one.act(observation)) for one in (self._policy, self._other))
        if own.shape != other.shape:
            return own  # the simulator says what is wrong with it; joined it might pass
        strays = self._rng.random(len(own)) < self._epsilon
        return np.where(strays[:, None], other, own)


def _begin(policy: Any, simulators: Sequence[Simulator]) -> None:
    """Tell a policy that may look ahead."""
    if hasattr(policy, "begin"):
        policy.begin(simulators)
