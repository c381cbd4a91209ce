"""Gymnasium environment: one episode of cluster job scheduling at a time."""

from typing import Any

import numpy as np
from gymnasium import spaces

from netllm_sims.cjs.env_base import EpisodeEnv
from netllm_sims.cjs.observation import JOB_COLUMNS, STAGE_COLUMNS, Observation
from netllm_sims.cjs.settings import Setting

_ANY = float(np.finfo(np.float32).max)  # gymnasium's checker warns of infinite bounds


def observation_space(setting: Setting) -> spaces.Dict:
    """Space of an observation; the numbers of jobs, stages and edges vary from step to step."""
    jobs, executors = setting.num_jobs, setting.num_executors
    stages = max(dag.stages for dag in setting.catalogue.dags)

    def rows(*width: int, low: float = 0.0, high: float = _ANY, dtype: Any = np.float32) -> Any:
        return spaces.Sequence(spaces.Box(low, high, width, dtype), stack=True)

    def labels(count: int) -> Any:
        return spaces.Sequence(spaces.Discrete(count), stack=True)

    def number(high: int, low: int = 0) -> spaces.Box:
        return spaces.Box(low, high, (1,), np.int64)

    def time() -> spaces.Box:
        return spaces.Box(0, np.finfo(np.float64).max, (1,), np.float64)

    return spaces.Dict(
        {
            "stages": rows(len(STAGE_COLUMNS), low=-_ANY),
            "jobs": rows(len(JOB_COLUMNS)),
            "edges": rows(2, high=jobs * stages - 1, dtype=np.int64),
            "schedulable": labels(2),
            "frontier": labels(2),
            "stage_job": labels(jobs),
            "stage_id": labels(stages),
            "job_id": labels(jobs),
            "committable": number(executors),
            "executors": number(executors),
            "source_job": number(jobs - 1, low=-1),
            "time_ms": time(),
            "job_ms": time(),
            "can_wait": spaces.Box(0, 1, (1,), np.int8),
        }
    )


class Env(EpisodeEnv):
    """Executors of a cluster are committed to the stages of jobs that arrive over time.

    ## Action
    `Dict(stage=Discrete, executors=Discrete)`: the number of a stage among those that
    `schedulable` marks, -1 for none (any more in this round), and how many executors it gets, 1 to
    `committable`; it takes at most its demand. **`action_space` changes with every step** so that
    it holds the valid actions: `stage` starts at 0 where `can_wait` is 0. Any other action changes
    nothing: the reward is 0, the observation the same, and `info["invalid"]` says what is wrong.

    ## Observation
    `Dict` of arrays. The rows of active jobs and their unfinished stages vary in number.

    | field | shape | unit and meaning |
    |---|---|---|
    | `stages` | (stages, 9) | float32: tasks unstarted and running, executors moving and committed\
 there, demand, all tasks, last task's duration in ms, unstarted · duration,\
 longest path from it down in ms |
    | `jobs` | (jobs, 5) | float32: supply of executors, local ones, unfinished stages, age in ms, \
1 if its executors are being committed |
    | `edges` | (edges, 2) | rows (parent, child) of `stages` |
    | `schedulable` | (stages,) | mask: 1 where the stage may be chosen |
    | `frontier` | (stages,) | 1 where its parents are finished |
    | `stage_job` | (stages,) | row of its job |
    | `stage_id` | (stages,) | number within its job |
    | `job_id` | (jobs,) | number in the sequence |
    | `committable` | (1,) | executors to be committed |
    | `executors` | (1,) | executors of the cluster |
    | `source_job` | (1,) | row of the job that releases them, -1 if none |
    | `time_ms` | (1,) | time since the start, float64 |
    | `job_ms` | (1,) | time that all jobs have spent in the cluster so far, float64 |
    | `can_wait` | (1,) | 0 where a stage must be chosen |

    ## Reward
    Minus the time in ms until the next decision, summed over the jobs that were active meanwhile; 0
    within a round. The sum over an episode is minus the sum of the job completion times. `info`
    holds `episode_id`, and at the end `jct_s` (mean), `makespan_s` and `utilisation`.

    ## Start
    `reset` draws a job sequence and the luck of its tasks: from all of `train`, or one of the fixed
    ones of `valid` and `test`. `reset(options={"episode": k})` runs fixed episode number k of the
    part under the setting's luck.

    ## End
    Terminates when all jobs are done; never truncates.

    ## Picture
    With `render_mode="rgb_array"` or `"human"`: a row per executor, a colour per job, over time.

    ## Arguments
    `gymnasium.make("netllm_sims:netllm/CJS-v0", setting="default", part="train", data=None,
    render_mode=None, **overrides)`: a setting's name or a `Setting`, the part, the data folder
    (NETLLM_DATA by default), how it is shown, and any field of the setting.

    ## Versions
    v0: first release.
    """

    def _prepare(self) -> None:
        super()._prepare()
        self.observation_space = observation_space(self.setting)  # type: ignore[assignment]
        self.action_space: spaces.Dict = spaces.Dict(
            {"stage": spaces.Discrete(1), "executors": spaces.Discrete(1, start=1)}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; see the class for how it is chosen."""
        super().reset(seed=seed)
        info = self._begin((options or {}).get("episode"), self.np_random)
        return self._show(), info

    def step(self, action: dict[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Commit executors and run to the next decision."""
        simulator = self.simulator
        info: dict[str, Any] = {"episode_id": simulator.episode.id}
        try:
            reward_ms = simulator.step(int(action["stage"]), int(action["executors"]))
        except ValueError as fault:
            return self._show(), 0.0, False, False, {**info, "invalid": str(fault)}
        if simulator.done:
            info |= self._ended()
        return self._show(), reward_ms, simulator.done, False, info

    def _show(self) -> Observation:
        seen = self.simulator.observe()
        self._offer(
            len(self.simulator.schedulable), int(seen["committable"][0]), seen["can_wait"][0]
        )
        shown = {name: seen[name] for name in _ROWS}
        shown["schedulable"], shown["frontier"] = (
            seen[name].view(np.int8) for name in ("schedulable", "frontier")
        )
        for name in ("committable", "executors", "source_job", "time_ms", "job_ms"):
            shown[name] = seen[name].copy()
        shown["can_wait"] = seen["can_wait"].astype(np.int8)
        self._refresh()
        return shown

    def _offer(self, stages: int, executors: int, can_wait: int) -> None:
        """Make the valid actions the action space; its random draws go on."""
        start = -1 if can_wait or not stages else 0
        last = self.action_space
        self.action_space = spaces.Dict(
            {
                "stage": spaces.Discrete(stages - start, seed=last["stage"].np_random, start=start),
                "executors": spaces.Discrete(
                    max(1, executors), seed=last["executors"].np_random, start=1
                ),
            }
        )


_ROWS = ("stages", "jobs", "edges", "stage_job", "stage_id", "job_id")
