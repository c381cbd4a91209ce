"""Gymnasium environment: the windows of one viewer watching one video, one after the other."""

from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.gymnasium_env_base import SettingEnv
from netllm_sims.vp import window_picture
from netllm_sims.vp.clips import Clip
from netllm_sims.vp.geometry import wrap_deg
from netllm_sims.vp.metrics import mae_deg
from netllm_sims.vp.settings import Setting
from netllm_sims.vp.settings import setting as named

Observation = dict[str, ndarray]


class Env(SettingEnv):
    """The viewports that follow are predicted from those before, window by window.

    What is answered changes nothing that comes: this is supervised learning in the shape of an
    environment, for tools that know no other.

    ## Action
    `Box(-180, 180, (horizon, 3), float32)`: roll, pitch and yaw in degrees of the viewports that
    follow, 20 of them by default, 0.2 s apart.

    ## Observation
    | field | shape | low | high | unit and meaning |
    |---|---|---|---|---|
    | `viewport_deg` | (history, 3) | -180 | 180 | roll, pitch and yaw in degrees, newest last |
    | `time_s` | (1,) | 0 | any | s into the video of the last known viewport |
    | `memory_deg` | (memory, 3) | -180 | 180 | the viewer's points before these, newest last |
    | `memory_known` | (memory,) | 0 | 1 | 0 where the recording had not begun; the point is 0 |
    | `crowd_deg` | (crowd, history + horizon, 3) | -180 | 180 | earlier viewers at these points \
    and the next |
    | `crowd_known` | (crowd,) | 0 | 1 | 0 where there is no such viewer; the points are 0 |

    The last four are there where the setting has a `memory` or a `crowd`, as `default` has not.

    ## Reward
    Minus the mean absolute error in degrees (`mae_deg`). `info` holds `clip`, the user-video pair,
    and after a step `future_deg`, what really followed.

    ## Start
    `reset` draws a user-video pair of the part; `reset(options={"clip": k})` takes number k.

    ## End
    Terminates after the pair's last window; never truncates.

    ## Picture
    With `render_mode="rgb_array"` or `"human"`: the known path over the sphere, unrolled; after a
    step also what was predicted for the window before, and what followed. Frames of the video lie
    behind where the setting has some.

    ## Arguments
    `gymnasium.make("netllm_sims:netllm/VP-v0", setting="default", part="train", data=None,
    render_mode=None, **overrides)`: a setting's name or a `Setting`, the part, the data folder
    (NETLLM_DATA by default), how it is shown, and any field of the setting.

    ## Versions
    v0: first release.
    """

    named = staticmethod(named)
    setting: Setting

    def _prepare(self) -> None:
        self._clips = self.setting.clips(self.part)
        self._clip: Clip | None = None
        self._window = 0
        self._predicted_deg: Float[ndarray, "horizon 3"] | None = None
        any_s = float(np.finfo(np.float32).max)
        self.action_space = spaces.Box(-180.0, 180.0, (self.setting.horizon, 3), np.float32)
        known: dict[str, spaces.Space[Any]] = {"time_s": spaces.Box(0.0, any_s, (1,), np.float32)}
        for name, values in self._clips[0].fields(slice(0, 1)).items():
            if name.endswith("_deg"):
                known[name] = spaces.Box(-180.0, 180.0, values.shape[1:], np.float32)
            elif name.endswith("_known"):
                known[name] = spaces.MultiBinary(values.shape[1:])
        self.observation_space = spaces.Dict(known)  # type: ignore[assignment]

    @property
    def clip(self) -> Clip:
        """The user-video pair being played."""
        if self._clip is None:
            raise RuntimeError("`reset` must come first.")
        return self._clip

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with the first window of a pair; see the class for how it is chosen."""
        super().reset(seed=seed)
        number = (options or {}).get("clip")
        if number is None:
            number = int(self.np_random.integers(len(self._clips)))
        if not 0 <= number < len(self._clips):
            raise ValueError(
                f"`options['clip']` must lie between 0 and {len(self._clips) - 1}, got {number}."
            )
        self._clip, self._window, self._predicted_deg = self._clips[number], 0, None
        return self._observe(), {"clip": self._clip.id}

    def step(self, action: ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Compare the predicted viewports with those that followed, and go to the next window.

        Raises:
            ValueError: Not `horizon` finite viewports.
        """
        predicted_deg = np.asarray(action, np.float64)
        wanted = (self.setting.horizon, 3)
        if predicted_deg.shape != wanted or not np.isfinite(predicted_deg).all():
            raise ValueError(
                f"`action` must be {wanted} finite degrees, got shape {predicted_deg.shape}."
            )
        if self._window >= len(self.clip):
            raise RuntimeError("`step` must not follow the end of the episode. Call `reset`.")
        future_deg = self.clip.future_deg[self._window]
        reward = -float(mae_deg(predicted_deg[None], future_deg[None])[0])
        self._predicted_deg = predicted_deg
        self._window += 1
        info = {"clip": self.clip.id, "future_deg": future_deg.copy()}
        return self._observe(), reward, self._window == len(self.clip), False, info

    def _observe(self) -> Observation:
        """The window at hand; after the last one, that one again."""
        window = min(self._window, len(self.clip) - 1)
        self._refresh()
        fields = self.clip.fields(slice(window, window + 1))
        time_s = fields.pop("time_s").astype(np.float32)
        return {"time_s": time_s} | {
            name: values[0].astype(np.int8)
            if name.endswith("_known")
            else wrap_deg(values[0]).astype(np.float32)
            for name, values in fields.items()
        }

    def _draw(self, figure: Any) -> None:
        window, answered = self._window, self._predicted_deg is not None
        if answered:
            window -= 1
        frames = self.setting.frames_of(self.clip.video)
        time_s = float(self.clip.time_s[window])
        window_picture.draw(
            figure,
            history_deg=self.clip.history_deg[window],
            future_deg=self.clip.future_deg[window] if answered else None,
            predicted_deg=self._predicted_deg,
            frame=frames.at(time_s) if frames else None,
            title=f"{self.clip.id} at {time_s:.1f} s",
        )
