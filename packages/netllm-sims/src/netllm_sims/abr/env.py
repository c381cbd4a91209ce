"""Gymnasium environment: one streaming session at a time."""

from typing import Any

import numpy as np
from gymnasium import spaces

from netllm_sims.abr import session_picture, train_valid_test
from netllm_sims.abr.observation_spaces import columns, observation_space
from netllm_sims.abr.sessions import Session
from netllm_sims.abr.settings import Setting
from netllm_sims.abr.settings import setting as named
from netllm_sims.abr.simulator import Observation, Simulator
from netllm_sims.gymnasium_env_base import SettingEnv


class Env(SettingEnv):
    """One viewer streams a video chunk by chunk over a link of varying bandwidth.

    ## Action
    `Discrete(levels)`: the level of the next chunk, an index into the ladder (6 levels, 300 to 4300
    kbit/s, by default).

    ## Observation
    `Dict` of float32 arrays and of `level`, an index:

    | field | shape | low | high | unit and meaning |
    |---|---|---|---|---|
    | `throughput_mbps` | (6,) | 0 | any | Mbit/s of the last chunks, newest last |
    | `delay_s` | (6,) | 0 | any | s that these chunks took, round trip included |
    | `sizes_mb` | (6, levels) | 0 | any | MB of the next chunks, row 0 the one to choose |
    | `rate_kbps` | (1,) | 0 | top of the ladder | kbit/s, label of the last chunk |
    | `level` | `Discrete` | 0 | levels - 1 | index of the last chunk's rate |
    | `buffer_s` | (1,) | 0 | cap, 60 | s of playback in the buffer |
    | `stall_s` | (1,) | 0 | any | s without playback caused by the last chunk |
    | `chunks_left` | (1,) | 0 | chunks - 1 | chunks still to be decided |
    | `reward` | (1,) | any | top in Mbit/s | QoE of the last chunk |
    | `live_latency_s` | (1,) | 0 | any | live only: s behind the live edge |
    | `speed` | (1,) | 0 | any | live only: mean speed of playback |

    ## Reward
    QoE of the chunk: Mbps - 4.3 · stall in s - |change in Mbps|. `info` holds the parts
    `bitrate_mbps`, `rebuffer_s`, `smoothness_mbps`, live also `live_latency_s` and `speed`, which
    count there too (`netllm_sims.abr.QoE`), and `session`, the session's id.

    ## Start
    `reset` downloads the first chunk at level 0. Part `train` draws a random trace and a random
    start, and randomises the share `alter` of the setting; `valid` and `test` draw one of their
    fixed sessions. `reset(options={"session": k})` plays fixed session number k of the part.

    ## End
    Terminates after the last chunk, 47 decisions by default; never truncates.

    ## Picture
    With `render_mode="rgb_array"` or `"human"`: throughput and chosen rate of each chunk, and the
    buffer below.

    ## Arguments
    `gymnasium.make("netllm_sims:netllm/ABR-v0", setting="default", part="train", data=None,
    render_mode=None, **overrides)`: a setting's name or a `Setting`, the part, the data folder
    (NETLLM_DATA by default), how it is shown, and any field of the setting.

    ## Versions
    v0: first release.
    """

    named = staticmethod(named)
    setting: Setting

    def _prepare(self) -> None:
        self._chunks: list[session_picture.Chunk] = []
        self._fixed = self.setting.sessions(self.part)
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
        self._chunks.clear()
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
            drawn = train_valid_test.draw(
                self._fixed, self.np_random, id=f"train-{self.np_random.integers(2**31)}"
            )
            return self.setting.randomise([drawn], self._fixed, self.np_random)[0]
        return self._fixed[int(self.np_random.integers(len(self._fixed)))]

    def _observe(self) -> Observation:
        seen = columns(self._simulator.observation)
        observed = {name: value[0].copy() for name, value in seen.items()}
        if self.render_mode is not None:
            self._chunks.append(session_picture.last_chunk(observed))
            self._refresh()
        return observed

    def _draw(self, figure: Any) -> None:
        setting = self.setting
        session_picture.draw(self._chunks, figure, total=setting.chunks, cap_s=setting.buffer_cap_s)
