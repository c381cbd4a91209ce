"""Gymnasium environment: one episode of cluster job scheduling at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from netllm_sims.cjs.durations import Sampled
from netllm_sims.cjs.episodes import Episode
from netllm_sims.cjs.observation import JOB_COLUMNS, STAGE_COLUMNS, Observation
from netllm_sims.cjs.parts import DRAWN, check, seeds
from netllm_sims.cjs.settings import Setting
from netllm_sims.cjs.settings import setting as named
from netllm_sims.cjs.simulator import Simulator

_ANY = float(np.finfo(np.float32).max)  # gymnasium's checker warns of infinite bounds
_MANY = 2**31 - 1


def observation_space(setting: Setting) -> spaces.Dict:
    """Space of an observation; the numbers of jobs, stages and edges vary from step to step."""

    def rows(*width: int, low: float = 0.0, high: float = _ANY, dtype: Any = np.float32) -> Any:
        return spaces.Sequence(spaces.Box(low, high, width, dtype), stack=True)

    def labels(count: int) -> Any:
        return spaces.Sequence(spaces.Discrete(count), stack=True)

    def number(high: int, low: int = 0) -> spaces.Box:
        return spaces.Box(low, high, (), np.int64)

    executors = setting.num_executors
    return spaces.Dict(
        {
            "stages": rows(len(STAGE_COLUMNS), low=-_ANY),
            "jobs": rows(len(JOB_COLUMNS)),
            "edges": rows(2, high=_MANY, dtype=np.int64),
            "schedulable": labels(2),
            "frontier": labels(2),
            "stage_job": labels(_MANY),
            "stage_id": labels(_MANY),
            "job_id": labels(_MANY),
            "committable": number(executors),
            "executors": number(executors),
            "source_job": number(_MANY, low=-1),
            "time_ms": spaces.Box(0, np.finfo(np.float64).max, (), np.float64),
            "job_ms": spaces.Box(0, np.finfo(np.float64).max, (), np.float64),
            "can_wait": spaces.Box(0, 1, (), np.int8),
        }
    )


class Env(gymnasium.Env[Observation, dict[str, Any]]):
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
    | `committable` | () | executors to be committed |
    | `executors` | () | executors of the cluster |
    | `source_job` | () | row of the job that releases them, -1 if none |
    | `time_ms` | () | time since the start, float64 |
    | `job_ms` | () | time that all jobs have spent in the cluster so far, float64 |
    | `can_wait` | () | 0 where a stage must be chosen |

    ## Reward
    Minus the time in ms until the next decision, summed over the jobs that were active meanwhile; 0
    within a round. The sum over an episode is minus the sum of the job completion times. `info`
    holds `episode`, and at the end `jct_s` (mean), `makespan_s` and `utilisation`.

    ## Start
    `reset` draws a job sequence and the luck of its tasks: from all of `train`, or one of the fixed
    ones of `valid` and `test`. `reset(options={"episode": k})` runs fixed episode number k of the
    part under the setting's luck.

    ## End
    Terminates when all jobs are done; never truncates.

    ## Arguments
    `gymnasium.make("netllm/CJS-v0", setting="default", part="train", data=None, **overrides)`: a
    setting's name or a `Setting`, the part, the data folder (NETLLM_DATA by default) and any field
    of the setting.

    ## Versions
    v0: first release.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(
        self,
        *,
        setting: str | Setting = "default",
        part: str = "train",
        data: str | Path | None = None,
        **overrides: Any,
    ) -> None:
        self.setting = _resolve(setting, data, overrides)
        check(part)
        self.part = part
        self._fixed = seeds(part, None, 0)
        self._simulator: Simulator | None = None
        self.observation_space = observation_space(self.setting)  # type: ignore[assignment]
        self._offer(1, 1, 0)

    @property
    def simulator(self) -> Simulator:
        """The running episode."""
        if self._simulator is None:
            raise RuntimeError("`reset` must come first.")
        return self._simulator

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; see the class for how it is chosen."""
        super().reset(seed=seed)
        self._simulator = Simulator(self.setting, self._choose((options or {}).get("episode")))
        return self._show(), {"episode": self.simulator.episode.id}

    def step(self, action: dict[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Commit executors and run to the next decision."""
        simulator = self.simulator
        info: dict[str, Any] = {"episode": simulator.episode.id}
        try:
            reward_ms = simulator.step(int(action["stage"]), int(action["executors"]))
        except ValueError as fault:
            return self._show(), 0.0, False, False, {**info, "invalid": str(fault)}
        if simulator.done:
            info["jct_s"] = float(simulator.jct_s.mean())
            info["makespan_s"] = simulator.time_ms * 1e-3
            info["utilisation"] = simulator.utilisation
        return self._show(), reward_ms, simulator.done, False, info

    def _choose(self, number: int | None) -> Episode:
        if number is not None:
            if not 0 <= number < len(self._fixed):
                raise ValueError(
                    f"`options['episode']` must lie between 0 and {len(self._fixed) - 1}, "
                    f"got {number}."
                )
            return self.setting.episodes(self.part, seeds=[self._fixed[number]])[0]
        if self.part == "train":
            sequence = int(self.np_random.integers(*DRAWN["train"]))
        else:
            sequence = self._fixed[int(self.np_random.integers(len(self._fixed)))]
        episode = self.setting.episodes(self.part, seeds=[sequence])[0]
        return replace(episode, durations=Sampled(int(self.np_random.integers(2**31))))

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
            shown[name] = seen[name].reshape(())
        shown["can_wait"] = seen["can_wait"].astype(np.int8).reshape(())
        return shown

    def _offer(self, stages: int, executors: int, can_wait: int) -> None:
        start = -1 if can_wait or not stages else 0
        self.action_space = spaces.Dict(  # type: ignore[assignment]
            {
                "stage": spaces.Discrete(stages - start, start=start),
                "executors": spaces.Discrete(max(1, executors), start=1),
            }
        )


_ROWS = ("stages", "jobs", "edges", "stage_job", "stage_id", "job_id")


def _resolve(setting: str | Setting, data: str | Path | None, overrides: dict[str, Any]) -> Setting:
    if isinstance(setting, str):
        return named(setting, data=data, **overrides)
    if data is not None or overrides:
        raise ValueError(
            "`data` and overrides need a setting's name, got a Setting. Override when building it: "
            "netllm_sims.cjs.setting(name, data=…, FIELD=…)."
        )
    return setting
