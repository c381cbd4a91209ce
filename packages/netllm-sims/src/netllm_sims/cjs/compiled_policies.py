"""Policies that are compiled into the simulator's loop."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


class Askable(Protocol):
    """A running episode that asks compiled policies, as a `Simulator` does."""

    def ask(self, heuristic: "Heuristic") -> tuple[int, int]:
        """Choice and executors that the policy would choose now."""
        ...


class Heuristic:
    """A compiled policy; episodes that nobody watches run in one compiled loop.

    Args:
        name: `module:function` of a function made by
            `cjs.compiled_policy_tools.heuristic`.
        parameters: Its numbers.
    """

    def __init__(self, name: str, parameters: Sequence[float] = ()) -> None:
        self.name = name
        self.parameters: Float[ndarray, "parameter"] = np.array(parameters, np.float64)
        self._simulators: Sequence[Askable] = ()

    @cached_property
    def function(self) -> Any:
        """The compiled function, imported when first used."""
        module, _, function = self.name.partition(":")
        return getattr(import_module(module), function)

    def reset(self, seed: int) -> None:
        """Nothing is remembered and nothing is random."""

    def begin(self, simulators: Sequence[Askable]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        self._simulators = simulators

    def act(self, observation: Mapping[str, ndarray]) -> Int[ndarray, "batch 2"]:
        """Choice and executors for each episode of the observation."""
        episodes = observation["episode"].tolist()
        return np.array([self._simulators[k].ask(self) for k in episodes], np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "parameters": self.parameters, "_simulators": ()}


def fifo() -> Heuristic:
    """FIFO as the reference has it: in order of arrival, half of the executors at most to a job."""
    return Heuristic("netllm_sims.cjs.engine.fifo_and_fair:fifo")


def fair() -> Heuristic:
    """Fair as the reference has it: in order of arrival, an equal share at most to a job."""
    return Heuristic("netllm_sims.cjs.engine.fifo_and_fair:fair")
