"""Rules that order jobs and cap their executors, compiled into the simulator's loop."""

from math import isfinite
from typing import TYPE_CHECKING

from netllm_sims.cjs import Heuristic, fair, fifo

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting

_MODULE = "netllm_baselines.cjs._compiled_rules"
EXPONENT = -0.25


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


class TrueFIFO(Heuristic):
    """All executors to the job that came first, then what it cannot use to the next, without cap.

    Args:
        setting: Without influence: the simulator knows its executors.

    Source: Spark's FIFO order (job, then stage); within a job stages come first whose parents
        are finished.
    """

    def __init__(self, setting: "Setting") -> None:
        super().__init__(f"{_MODULE}:true_fifo")


class SRW(Heuristic):
    """All executors to the job with the shortest remaining work, then to the next shortest.

    Work is tasks times their stage's latest duration.

    Args:
        setting: Without influence: the simulator knows its executors.
        running: Share of a running task that is taken to be left.

    Source: shortest remaining processing time (Schrage 1968), as if work could be spread at will.
    """

    def __init__(self, setting: "Setting", *, running: float = 0.5) -> None:
        super().__init__(f"{_MODULE}:srw", [running])


class CriticalPath(Heuristic):
    """All executors to the stage from which the longest path leads to the end of its job.

    A path is as long as its stages' latest task durations together. The rule is made for the end
    of the last job, not for the mean.

    Args:
        setting: Without influence: the simulator knows its executors.

    Source: list scheduling by levels, Hu 1961.
    """

    def __init__(self, setting: "Setting") -> None:
        super().__init__(f"{_MODULE}:critical_path")


class WeightedFair(Heuristic):
    """`Fair` with shares in proportion to a job's whole work to the power of `exponent`.

    Args:
        setting: Without influence: the simulator knows its executors.
        exponent: 0 is `Fair`; below 0 short jobs get more. On validation sequences 20 to 22 the
            default is the best of -0.75 to 0 at 30 executors; at 50 none of -2 to 1 beat 0.

    Raises:
        ValueError: The exponent is not finite.

    Source: Mao et al., "Learning Scheduling Algorithms for Data Processing Clusters", SIGCOMM
        2019, section 7.1, "tuned weighted fair"; jobs there are capped in the same way.
    """

    def __init__(self, setting: "Setting", *, exponent: float = EXPONENT) -> None:
        if not isfinite(exponent):
            raise ValueError(f"`exponent` must be finite, got {exponent}.")
        super().__init__(f"{_MODULE}:weighted_fair", [exponent])
