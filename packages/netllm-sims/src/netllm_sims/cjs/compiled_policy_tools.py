"""Tools to write a policy that is compiled into the simulator's loop; importing it loads numba.

A policy is a function `(world, state, parameters) -> (stage, executors)`: the arrays of `World` and
`State` of `netllm_sims.cjs.engine.state_arrays` (read them only), its own numbers as float64, and
the stage (numbered over the episode, -1 for none) that is to get so many executors:

    from netllm_sims.cjs.compiled_policy_tools import committable, heuristic

    @heuristic
    def first(world, state, parameters):
        return state.schedulable[0], committable(state)

`state.schedulable[: state.g[state_arrays.SCHEDULABLE]]` are the stages that may be chosen, in order
of arrival. `cjs.Heuristic("module:first")` makes it a policy. `inner` compiles functions that it
calls. To simulate ahead, `copy` one state into another of the same sizes and use `decide` and
`advance`; to do so without knowing the future, `copy_present`, `redraw_running` and `use_draws`.
"""

from netllm_sims.cjs.engine.commitments import committable, is_ready
from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.copying import copy, copy_present, present
from netllm_sims.cjs.engine.decision_rounds import (
    advance,
    begin,
    can_wait,
    check,
    decide,
    source_job,
)
from netllm_sims.cjs.engine.policy_loop import heuristic, run
from netllm_sims.cjs.engine.task_durations import mix, redraw_running, use_draws

__all__ = [
    "advance",
    "begin",
    "can_wait",
    "check",
    "committable",
    "compiled",
    "copy",
    "copy_present",
    "decide",
    "heuristic",
    "inner",
    "is_ready",
    "mix",
    "present",
    "redraw_running",
    "run",
    "source_job",
    "use_draws",
]
