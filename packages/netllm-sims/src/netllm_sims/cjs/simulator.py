"""One episode of the cluster, from decision to decision."""

from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs.engine.state_arrays import (
    BUSY_MS,
    DECISIONS,
    EXECUTORS,
    JOB_MS,
    NOW,
    SCHEDULABLE,
    SEEN,
    State,
    World,
    build_state,
    build_world,
    slowness,
)  # fmt: skip
from netllm_sims.cjs.episodes import Episode, Replay, Sampled
from netllm_sims.cjs.observation import Observation, observe

if TYPE_CHECKING:
    from netllm_sims.cjs.compiled_policies import Heuristic
    from netllm_sims.cjs.settings import Setting


class Simulator:
    """A cluster of executors that work on the stages of arriving jobs.

    Executors of a pool (that of a stage, of a job, or the common one) are released together: a
    round of decisions commits them to stages. A decision names a schedulable stage and how many
    executors it gets, at most its demand, or none: then the rest go to the common pool. At the
    end of a round idle executors follow the commitments, busy ones when their stage has no task
    left to start. Moving between jobs takes `moving_ms`; tasks on executors that just came take
    longer, by the profile's fresh durations or by `warmup_ms`.

    Args:
        setting: Executors, delays and how durations are interpolated.
        episode: The jobs, and the durations of their tasks.
        log: Keep `task_log` and `event_log`.

    Source: `spark_sched_sim` of NetLLM's cluster_job_scheduling, by Gertsman, after Decima's
    simulator. The same decisions and durations give the same events at the same times.
    """

    def __init__(self, setting: "Setting", episode: Episode, *, log: bool = False) -> None:
        self.setting = setting
        self.episode = episode
        self.world: World = build_world(
            episode.jobs,
            slowness=slowness(setting.num_executors, setting.slow_executors, setting.slow_factor),
            moving_ms=setting.moving_ms,
            warmup_ms=setting.warmup_ms,
            reference=setting.interpolation == "reference",
        )
        self.logs = log
        self.state: State
        self.reset()

    def reset(self) -> Observation:
        """Start the episode anew and run it to the first decision, which it shows."""
        from netllm_sims.cjs.engine.decision_rounds import begin

        durations = self.episode.durations
        self.state = build_state(
            self.world,
            luck=durations.luck if isinstance(durations, Sampled) else 0,
            replay_ms=durations.durations_ms if isinstance(durations, Replay) else None,
            log=self.logs,
        )
        begin(self.world, self.state)
        return observe([self])

    def observe(self) -> Observation:
        """What a policy sees now, as a batch of one; see `cjs.observe`."""
        return observe([self])

    def step(self, choice: int, executors: int) -> float:
        """Commit executors and run to the next decision.

        Args:
            choice: Number of the stage among the schedulable ones, or -1 for none (any more).
            executors: How many it gets; it takes at most its demand. Without meaning for -1.

        Returns:
            The reward in ms: minus the time that passed, summed over the jobs that were active
            meanwhile; 0 within a round.

        Raises:
            ValueError: No such stage, too few or too many executors, or -1 where nothing would
                ever happen again.
            RuntimeError: The episode is over.
        """
        from netllm_sims.cjs.engine.decision_rounds import decide

        stage = self.check(choice, executors)
        before_ms = self.state.clock[JOB_MS]
        decide(self.world, self.state, stage, self._known(executors))
        return float(before_ms - self.state.clock[JOB_MS])

    def check(self, choice: int, executors: int) -> int:
        """The stage, numbered over the episode, or -1, to which `step` would commit executors.

        Raises:
            ValueError: As `step` does.
            RuntimeError: The episode is over.
        """
        from netllm_sims.cjs.engine.decision_rounds import VALID, check

        if self.done:
            raise RuntimeError("`step` must not follow the end of the episode. Call `reset`.")
        count = int(self.state.g[SCHEDULABLE])
        if not -1 <= choice < count:
            raise ValueError(
                f"`choice` must be -1 or one of the {count} schedulable stages, got {choice}."
            )
        stage = -1 if choice < 0 else int(self.state.schedulable[choice])
        wrong = check(self.world, self.state, stage, self._known(executors))
        if wrong != VALID:
            raise ValueError(self._complaint(wrong, stage, int(executors)))
        return stage

    def run(self, heuristic: "Heuristic") -> None:
        """Follow a compiled policy to the end.

        Raises:
            ValueError: It chose what `step` would not take.
        """
        from netllm_sims.cjs.engine.decision_rounds import VALID
        from netllm_sims.cjs.engine.policy_loop import runner

        function, parameters = heuristic.function, heuristic.parameters
        wrong = runner()(function, self.world, self.state, parameters)
        if wrong != VALID:
            stage, executors = function(self.world, self.state, parameters)
            raise ValueError(self._complaint(wrong, stage, executors))

    def ask(self, heuristic: "Heuristic") -> tuple[int, int]:
        """What a compiled policy would choose now, as `step` takes it."""
        stage, executors = heuristic.function(self.world, self.state, heuristic.parameters)
        listed = self.schedulable.tolist()
        return listed.index(stage) if stage in listed else -1, max(1, executors)

    def copy(self) -> "Simulator":
        """The same episode at the same moment, to be run on its own; it keeps no logs."""
        from netllm_sims.cjs.engine.copying import copy

        twin = object.__new__(Simulator)
        twin.setting, twin.episode, twin.world = self.setting, self.episode, self.world
        twin.logs = False
        twin.state = build_state(self.world, replay_ms=self.state.replay_ms)
        copy(self.state, twin.state)
        return twin

    @property
    def done(self) -> bool:
        """Whether all jobs are finished."""
        return int(self.state.g[SCHEDULABLE]) == 0

    @property
    def time_ms(self) -> float:
        """Time since the start."""
        return float(self.state.clock[NOW])

    @property
    def decisions(self) -> int:
        """Decisions taken so far."""
        return int(self.state.g[DECISIONS])

    @property
    def committable(self) -> int:
        """Executors to be committed now."""
        from netllm_sims.cjs.engine.commitments import committable

        return int(committable(self.state))

    @property
    def can_wait(self) -> bool:
        """Whether choosing no stage is allowed now."""
        from netllm_sims.cjs.engine.decision_rounds import can_wait

        return not self.done and bool(can_wait(self.world, self.state))

    @property
    def schedulable(self) -> Int[ndarray, "choice"]:
        """Stages that may be chosen, numbered over the episode, in order of arrival (copy)."""
        return self.state.schedulable[: self.state.g[SCHEDULABLE]].copy()

    @property
    def jct_s(self) -> Float[ndarray, "job"]:
        """Time from each job's arrival to its end, infinite for unfinished jobs."""
        return (self.state.done_ms - self.world.arrival_ms) * 1e-3

    @property
    def utilisation(self) -> float:
        """Share of the executors' time so far that went, or is promised, to tasks."""
        whole_ms = self.time_ms * int(self.world.options[EXECUTORS])
        return float(self.state.clock[BUSY_MS]) / whole_ms if whole_ms else 0.0

    @property
    def task_log(self) -> Float[ndarray, "task 7"]:
        """Started tasks: start ms, duration ms, executor, stage, executors at job, wave, number.

        Stages are numbered over the episode; waves are 0 (the executor was idle), 1 (it came from
        the same stage) and 2 (from another).
        """
        return self.state.task_log[: self._logged(len(self.state.task_log))].copy()

    @property
    def event_log(self) -> Float[ndarray, "event 4"]:
        """Per event: ms, kind (0 job, 1 executor arrives, 2 task ends), job or executor, stage."""
        return self.state.event_log[: int(self.state.g[SEEN])].copy()

    def _logged(self, room: int) -> int:
        from netllm_sims.cjs.engine.state_arrays import STARTED

        return min(room, int(self.state.g[STARTED]))

    def _known(self, executors: int) -> int:
        """The number, or one that is as wrong and that the core can take."""
        return min(max(int(executors), 0), len(self.state.executor) + 1)

    def _complaint(self, wrong: int, stage: int, executors: int) -> str:
        from netllm_sims.cjs.engine.decision_rounds import NO_WAITING, STUCK, WRONG_STAGE

        if wrong == STUCK:
            return "Jobs are left that nothing can finish; this is a fault of the simulator."
        if wrong == NO_WAITING:
            return "A stage must be chosen, for nothing else would ever happen, got none."
        if wrong == WRONG_STAGE:
            return f"The stage must be one of {self.schedulable.tolist()}, got {stage}."
        return f"`executors` must lie between 1 and {self.committable}, got {executors}."
