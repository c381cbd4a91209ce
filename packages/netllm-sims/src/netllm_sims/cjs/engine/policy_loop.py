"""Whole episodes under a compiled policy, which is called through a pointer."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from jaxtyping import Float
from numba import types
from numpy import ndarray

from netllm_sims.cjs.dag import Waves, build
from netllm_sims.cjs.engine.compilation import compiled
from netllm_sims.cjs.engine.decision_rounds import STUCK, VALID, check, decide
from netllm_sims.cjs.engine.state_arrays import (
    FINISHED,
    SCHEDULABLE,
    State,
    World,
    build_state,
    build_world,
)
from netllm_sims.cjs.jobs import Job, Workload

typeof: Any = numba.typeof
Function = Callable[[World, State, Any], tuple[int, int]]


@cache
def signature() -> Any:
    """Type of a compiled policy: (world, state, parameters) -> (stage or -1, executors)."""
    jobs = Workload([Job(build("", [Waves.same(1, [1.0])], []), 0.0)])
    world = build_world(jobs, slowness=np.ones(1), moving_ms=0.0, warmup_ms=0.0, reference=True)
    arrays = [typeof(some) for some in (world, build_state(world), np.zeros(1))]
    pair: Any = typeof((1, 1))
    return pair(*arrays)


def heuristic(function: Function) -> Any:
    """The policy compiled for `cjs.Heuristic`, cached for later processes."""
    dispatcher: Any = compiled(function)
    dispatcher.compile(signature().args)
    return dispatcher


@compiled
def run(function: Any, world: World, state: State, parameters: Float[ndarray, "parameter"]) -> int:
    """Follow the policy to the end: VALID, or what is wrong with its last choice."""
    while state.g[SCHEDULABLE] > 0:
        s, count = function(world, state, parameters)
        wrong = check(world, state, s, count)
        if wrong != VALID:
            return wrong
        decide(world, state, s, count)
    return VALID if state.g[FINISHED] == world.arrival_ms.shape[0] else STUCK


@cache
def runner() -> Any:
    """`run`, compiled once for all policies."""
    world, state, parameters = signature().args
    run.compile(  # type: ignore[attr-defined]
        types.int64(types.FunctionType(signature()), world, state, parameters)
    )
    run.disable_compile()  # type: ignore[attr-defined]
    return run
