"""Gymnasium environments: one session at a time, and many at once."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy import ndarray

from netllm_sims.abr import parts
from netllm_sims.abr.alter import alter_some
from netllm_sims.abr.sessions import Session
from netllm_sims.abr.settings import Setting
from netllm_sims.abr.settings import setting as named
from netllm_sims.abr.simulator import HISTORY, Observation, Simulator

_ANY = float(np.finfo(np.float32).max)  # gymnasium's checker warns of infinite bounds


def observation_space(setting: Setting) -> spaces.Dict:
    """Space of one session's observation, in float32."""
    levels = setting.video.levels
    top = setting.rates_kbps[-1]

    def box(high: float, *shape: int, low: float = 0.0) -> spaces.Box:
        return spaces.Box(np.float32(low), np.float32(high), shape, np.float32)

    return spaces.Dict(
        {
            "throughput_mbps": box(_ANY, HISTORY),
            "delay_s": box(_ANY, HISTORY),
            "sizes_mb": box(_ANY, HISTORY, levels),
            "rate_kbps": box(top),
            "level": spaces.Box(0, levels - 1, (), np.int64),
            "buffer_s": box(setting.buffer_cap_s),
            "stall_s": box(_ANY),
            "chunks_left": box(setting.chunks - 1),
            "reward": box(top * 1e-3, low=-_ANY),
        }
    )


class Env(gymnasium.Env[Observation, np.int64]):
    """One viewer streams a video chunk by chunk over a link of varying bandwidth.

    ## Action
    `Discrete(levels)`: the level of the next chunk, an index into the ladder (6 levels, 300 to 4300
    kbit/s, by default).

    ## Observation
    `Dict` of float32 arrays (`level`: int64):

    | field | shape | low | high | unit and meaning |
    |---|---|---|---|---|
    | `throughput_mbps` | (6,) | 0 | any | Mbit/s of the last chunks, newest last |
    | `delay_s` | (6,) | 0 | any | s that these chunks took, round trip included |
    | `sizes_mb` | (6, levels) | 0 | any | MB of the next chunks, row 0 the one to choose |
    | `rate_kbps` | () | 0 | top of the ladder | kbit/s, label of the last chunk |
    | `level` | () | 0 | levels - 1 | index of the last chunk's rate |
    | `buffer_s` | () | 0 | cap, 60 | s of playback in the buffer |
    | `stall_s` | () | 0 | any | s without playback caused by the last chunk |
    | `chunks_left` | () | 0 | chunks - 1 | chunks still to be decided |
    | `reward` | () | any | top in Mbit/s | QoE of the last chunk |

    ## Reward
    QoE of the chunk: Mbps - 4.3 · stall in s - |change in Mbps|. `info` holds the parts
    `bitrate_mbps`, `rebuffer_s`, `smoothness_mbps`, and `session`, the session's id.

    ## Start
    `reset` downloads the first chunk at level 0. Part `train` draws a random trace and a random
    start, and alters the share `alter` of the setting; `valid` and `test` draw one of their fixed
    sessions. `reset(options={"session": k})` plays fixed session number k of the part.

    ## End
    Terminates after the last chunk, 47 decisions by default; never truncates.

    ## Arguments
    `gymnasium.make("netllm/ABR-v0", setting="default", part="train", data=None, **overrides)`: a
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
        self.part = part
        self._fixed = self.setting.sessions(part)
        self._simulator = Simulator(self.setting, self._fixed[:1])
        self._simulator.learn([session.trace for session in self._fixed])
        self.action_space = spaces.Discrete(self.setting.video.levels)  # type: ignore[assignment]
        self.observation_space = observation_space(self.setting)  # type: ignore[assignment]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a session; see the class for how it is chosen."""
        super().reset(seed=seed)
        session = self._choose((options or {}).get("session"))
        self._simulator.assign([session])
        self._simulator.reset(int(self.np_random.integers(2**31)))
        return self._observe(), {"session": session.id}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Download the next chunk at level `action`."""
        _, reward, done = self._simulator.step(np.array([action]))
        info: dict[str, Any] = {name: float(v[0]) for name, v in self._simulator.parts.items()}
        info["session"] = self._simulator.sessions[0].id
        return self._observe(), float(reward[0]), bool(done[0]), False, info

    def _choose(self, number: int | None) -> Session:
        if number is not None:
            if not 0 <= number < len(self._fixed):
                raise ValueError(
                    f"`options['session']` must lie between 0 and {len(self._fixed) - 1}, "
                    f"got {number}."
                )
            return self._fixed[number]
        if self.part == "train":
            drawn = parts.draw(
                self._fixed, self.np_random, id=f"train-{self.np_random.integers(2**31)}"
            )
            share = self.setting.alter
            return alter_some([drawn], self._fixed, self.np_random, share=share)[0]
        return self._fixed[int(self.np_random.integers(len(self._fixed)))]

    def _observe(self) -> Observation:
        return {name: np.array(value[0]) for name, value in self._simulator.observation.items()}


class VectorEnv(gymnasium.vector.VectorEnv[Observation, ndarray, ndarray]):
    """Many sessions of `Env` at once, in one compiled batch.

    Actions, observations, reward and end are those of `Env` with a leading batch axis; the
    observation's arrays are read-only, and **the next step reuses them**. All sessions have the
    same number of chunks and so end together.

    Autoreset is `SAME_STEP`: the step that ends the sessions returns their last rewards,
    `terminations` all true, the first observation of fresh sessions, and in `infos["final_obs"]`
    the last observation of the finished ones (a dict of arrays, copied; mask
    `infos["_final_obs"]`). Each fresh session is a random trace of the part from a random start,
    whatever the part; in `train` the share `alter` of the setting is altered.

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
        self.setting = _resolve(setting, data, overrides)
        self.num_envs = num_envs
        self._alter = self.setting.alter if part == "train" else 0.0
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
        observation, reward, done = self._simulator.step(actions)
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
        return self._simulator.reset(int(self._rng.integers(2**31)))

    def _fresh(self) -> list[Session]:
        sessions = []
        for number in range(self.num_envs):
            session = parts.draw(self._fixed, self._rng, id=f"{number}")
            if self._scale is not None and self._rng.random() < self._scale_share:
                factor = float(self._rng.uniform(*self._scale))
                session = Session(session.id, session.trace, session.start_s, factor, session.tags)
            sessions.append(session)
        return alter_some(sessions, self._fixed, self._rng, share=self._alter)


def _resolve(setting: str | Setting, data: str | Path | None, overrides: dict[str, Any]) -> Setting:
    if isinstance(setting, str):
        return named(setting, data=data, **overrides)
    if data is not None or overrides:
        raise ValueError(
            "`data` and overrides need a setting's name, got a Setting. Override when building it: "
            "netllm_sims.abr.setting(name, data=…, FIELD=…)."
        )
    return setting
