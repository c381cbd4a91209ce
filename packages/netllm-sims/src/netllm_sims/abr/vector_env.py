"""Many streaming sessions at once, as a vector environment of gymnasium."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy import ndarray

from netllm_sims.abr import train_valid_test
from netllm_sims.abr.observation_spaces import columns, observation_space
from netllm_sims.abr.sessions import Session
from netllm_sims.abr.settings import Setting
from netllm_sims.abr.settings import setting as named
from netllm_sims.abr.simulator import Observation, Simulator
from netllm_sims.setting_values import setting_of


class VectorEnv(gymnasium.vector.VectorEnv[Observation, ndarray, ndarray]):
    """Many sessions of `Env` at once, in one compiled batch.

    Actions, observations, reward and end are those of `Env` with a leading batch axis; the
    observation's arrays are read-only, and **the next step reuses them**. All sessions have the
    same number of chunks and so end together.

    Autoreset is `SAME_STEP`: the step that ends the sessions returns their last rewards,
    `terminations` all true, the first observation of fresh sessions, and in `infos["final_obs"]`
    the last observation of the finished ones (a dict of arrays, copied; mask
    `infos["_final_obs"]`). Each fresh session is a random trace of the part from a random start,
    whatever the part; in `train` the share `alter` of the setting is randomised.

    Args:
        setting: A setting's name or a `Setting`.
        part: `train`, `valid` or `test`.
        num_envs: Number of sessions at once.
        seed: Of everything random until `reset(seed=…)` gives another.
        scale: Range of a random factor on a session's bandwidth; None for none.
        scale_share: Share of the sessions that get one.
        data: Folder of the real data (NETLLM_DATA by default).
        overrides: Fields of the setting to change.

    Raises:
        ValueError: `num_envs` below 1, no range of scales >= 0.001, or a share outside [0, 1].
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        setting: str | Setting = "default",
        part: str = "train",
        num_envs: int = 1,
        seed: int = 0,
        *,
        scale: tuple[float, float] | None = None,
        scale_share: float = 0.5,
        data: str | Path | None = None,
        **overrides: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"`num_envs` must be at least 1, got {num_envs}.")
        if scale is not None and not 1e-3 <= scale[0] <= scale[1] < np.inf:
            raise ValueError(f"`scale` must be a range of factors >= 0.001, got {scale}.")
        if not 0 <= scale_share <= 1:
            raise ValueError(f"`scale_share` must lie in [0, 1], got {scale_share}.")
        self.setting = setting_of(setting, data, overrides, named=named)
        self.num_envs = num_envs
        self._train = part == "train"
        self._fixed = self.setting.sessions(part)
        self._scale, self._scale_share = scale, scale_share
        self._rng = np.random.default_rng(seed)
        self._simulator = Simulator(self.setting, self._fresh())
        self._simulator.learn([session.trace for session in self._fixed])
        levels = self.setting.video.levels
        self.single_action_space = spaces.Discrete(levels)  # type: ignore[assignment]
        self.single_observation_space = observation_space(self.setting)  # type: ignore[assignment]
        batch = gymnasium.vector.utils.batch_space
        self.action_space = batch(self.single_action_space, num_envs)
        self.observation_space = batch(self.single_observation_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin fresh sessions; an integer `seed` starts all random draws anew.

        Raises:
            ValueError: One seed per session was given; the batch draws from one stream.
        """
        if isinstance(seed, list):
            raise ValueError(
                f"`seed` must be one integer for the whole batch, got {len(seed)} seeds."
            )
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return self._begin(), {}

    def step(
        self, actions: ndarray
    ) -> tuple[Observation, ndarray, ndarray, ndarray, dict[str, Any]]:
        """Download the next chunk of every session; see the class for what happens at the end."""
        observed, reward, done = self._simulator.step(actions)
        observation = columns(observed)
        infos: dict[str, Any] = dict(self._simulator.parts)
        if done[0]:
            infos["final_obs"] = {name: value.copy() for name, value in observation.items()}
            infos["_final_obs"] = np.ones(self.num_envs, bool)
            observation = self._begin()
        return observation, reward, done, np.zeros(self.num_envs, bool), infos

    @property
    def sessions(self) -> list[Session]:
        """The sessions being played."""
        return list(self._simulator.sessions)

    def _begin(self) -> Observation:
        self._simulator.assign(self._fresh())
        return columns(self._simulator.reset(int(self._rng.integers(2**31))))

    def _fresh(self) -> list[Session]:
        sessions = []
        for number in range(self.num_envs):
            session = train_valid_test.draw(self._fixed, self._rng, id=f"{number}")
            if self._scale is not None and self._rng.random() < self._scale_share:
                factor = float(self._rng.uniform(*self._scale))
                session = Session(session.id, session.trace, session.start_s, factor, session.tags)
            sessions.append(session)
        if self._train:
            return self.setting.randomise(sessions, self._fixed, self._rng)
        return sessions
