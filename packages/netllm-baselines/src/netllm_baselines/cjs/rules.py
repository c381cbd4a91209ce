"""Rules that order jobs and cap their executors, compiled into the simulator's loop."""

from typing import TYPE_CHECKING

from netllm_sims.cjs import Heuristic, fair, fifo

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting


class FIFO(Heuristic):
    """Jobs in order of arrival, half of the executors at most to each: the published "FIFO".

    Args:
        setting: Without influence: the simulator knows its executors.

    Source: NetLLM's cluster_job_scheduling, commit 105bcf07, a round robin with that cap.
    """

    def __init__(self, setting: "Setting") -> None:
        super().__init__(fifo().name)


class Fair(Heuristic):
    """Jobs in order of arrival, an equal share of the executors at most to each.

    Args:
        setting: Without influence: the simulator knows its executors.

    Source: NetLLM's cluster_job_scheduling, commit 105bcf07.
    """

    def __init__(self, setting: "Setting") -> None:
        super().__init__(fair().name)
