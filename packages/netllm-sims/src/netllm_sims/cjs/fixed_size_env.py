"""Gymnasium environment of job scheduling in arrays of fixed size, for standard learners."""

from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float32
from numpy import ndarray

from netllm_sims.cjs.env_base import EpisodeEnv
from netllm_sims.cjs.observation import JOB_COLUMNS, STAGE_COLUMNS, Observation

CLUSTER_COLUMNS = ("committable", "executors", "jobs", "stages", "schedulable")
"""Columns of `cluster`: executors to be committed, executors of the cluster, active jobs, their
unfinished stages, the schedulable ones among them."""

_WIDTH = len(STAGE_COLUMNS) + len(JOB_COLUMNS)
_HIGH = 50.0  # the logarithm of any time or count stays far below
_INVALID = -1.0


class TableEnv(EpisodeEnv):
    """`cjs.Env` with the first schedulable stages in a table of fixed size.

    Learners that know no graphs, as Stable-Baselines3's, take it as it is; those that mask invalid
    actions find the masks in `action_masks()`, as sb3-contrib's MaskablePPO does.

    ## Action
    `MultiDiscrete([rows + 1, num_executors])`: the row of a stage, or `rows` for none (any more in
    this round), and one less than the executors that it gets; it takes at most its demand. An
    invalid action changes nothing, costs 1 s, and `info["invalid"]` says what is wrong.

    ## Observation
    | field | shape | meaning |
    |---|---|---|
    | `stages` | (rows, 14) | per schedulable stage `STAGE_COLUMNS` and its job's `JOB_COLUMNS`, \
zeros below the last |
    | `cluster` | (5,) | `CLUSTER_COLUMNS` |

    Every number x is shown as sign(x) · ln(1 + |x|). Stages stand in order of their jobs' arrival;
    those beyond the table wait until others are done.

    ## Reward
    Minus the time in s until the next decision, summed over the active jobs and divided by the
    setting's number of jobs: the sum over an episode of valid actions is minus the mean job
    completion time. `info` holds `episode_id`, and at the end `jct_s`, `makespan_s`, `utilisation`.

    ## Start, end, picture
    As those of `cjs.Env`.

    ## Arguments
    `gymnasium.make("netllm_sims:netllm/CJSTable-v0", rows=32, …)`: rows of the table, and the
    arguments of `cjs.Env`.

    Raises:
        ValueError: No row.

    ## Versions
    v0: first release.
    """

    def __init__(self, *, rows: int = 32, **arguments: Any) -> None:
        if rows < 1:
            raise ValueError(f"`rows` must be at least 1, got {rows}.")
        self.rows = rows
        super().__init__(**arguments)

    def _prepare(self) -> None:
        super()._prepare()
        rows = self.rows
        self.action_space = spaces.MultiDiscrete([rows + 1, self.setting.num_executors])
        self.observation_space = spaces.Dict(
            {
                "stages": spaces.Box(-_HIGH, _HIGH, (rows, _WIDTH), np.float32),
                "cluster": spaces.Box(0, _HIGH, (len(CLUSTER_COLUMNS),), np.float32),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; see `cjs.Env` for how it is chosen."""
        super().reset(seed=seed)
        info = self._begin((options or {}).get("episode"), self.np_random)
        return self._show(), info

    def step(self, action: ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Commit executors and run to the next decision."""
        simulator = self.simulator
        row, executors = int(action[0]), int(action[1]) + 1
        info: dict[str, Any] = {"episode_id": simulator.episode.id}
        try:
            reward_ms = simulator.step(-1 if row == self.rows else row, executors)
        except ValueError as fault:
            return self._show(), _INVALID, False, False, {**info, "invalid": str(fault)}
        if simulator.done:
            info |= self._ended()
        reward = reward_ms * 1e-3 / self.setting.num_jobs
        return self._show(), reward, simulator.done, False, info

    def action_masks(self) -> Bool[ndarray, "choice"]:
        """Which rows, and which numbers of executors, are valid: rows + 1 + num_executors flags."""
        simulator = self.simulator
        rows = np.zeros(self.rows + 1, bool)
        rows[: min(self.rows, len(simulator.schedulable))] = True
        rows[self.rows] = simulator.can_wait
        executors = np.arange(self.setting.num_executors) < max(1, simulator.committable)
        return np.concatenate([rows, executors])

    def _show(self) -> Observation:
        seen = self.simulator.observe()
        chosen = np.flatnonzero(seen["schedulable"])
        table = np.zeros((self.rows, _WIDTH), np.float32)
        shown = chosen[: self.rows]
        table[: len(shown), : len(STAGE_COLUMNS)] = seen["stages"][shown]
        table[: len(shown), len(STAGE_COLUMNS) :] = seen["jobs"][seen["stage_job"][shown]]
        counts = (
            seen["committable"][0],
            seen["executors"][0],
            len(seen["jobs"]),
            len(seen["stages"]),
            len(chosen),
        )
        self._refresh()
        return {"stages": _logarithm(table), "cluster": _logarithm(np.array(counts, np.float32))}


def _logarithm(values: Float32[ndarray, "..."]) -> Float32[ndarray, "..."]:
    return np.sign(values) * np.log1p(np.abs(values))
