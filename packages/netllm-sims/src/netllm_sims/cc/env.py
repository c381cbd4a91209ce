"""Gymnasium environment: one flow on one link at a time."""

from typing import Any

import numpy as np
from gymnasium import spaces

from netllm_sims.cc import interval_picture
from netllm_sims.cc.links import Link
from netllm_sims.cc.settings import Setting
from netllm_sims.cc.settings import setting as named
from netllm_sims.cc.simulator import FACTORS, HISTORY, SERIES, Observation, Simulator
from netllm_sims.cc.simulator_arrays import MOST_RATIO
from netllm_sims.gymnasium_env_base import SettingEnv

_ANY = float(np.finfo(np.float32).max)  # gymnasium's checker warns of infinite bounds
_SCALARS = ("rate_mbps", "inflight_packets", "min_rtt_ms", "interval_ms", "reward")


class Env(SettingEnv):
    """One sender finds the rate of a bottleneck link, one monitoring interval after another.

    ## Action
    `Discrete(9)`: the sending rate is multiplied by 0.5, 0.7, 0.85, 0.95, 1, 1.05, 1.2, 1.5 or 2.

    ## Observation
    `Dict` of float32 arrays; series have the newest of 8 intervals last, and 0 before the start:

    | field | shape | low | high | unit and meaning |
    |---|---|---|---|---|
    | `sent_mbps` | (8,) | 0 | any | Mbit/s sent in the last intervals |
    | `throughput_mbps` | (8,) | 0 | any | Mbit/s acknowledged in them |
    | `rtt_ms` | (8,) | 0 | any | ms, mean round trip of what was acknowledged |
    | `inflation` | (8,) | 0 | any | the same over the shortest one so far, less 1 |
    | `loss` | (8,) | 0 | 1 | share of losses among what was acknowledged or lost |
    | `rtt_gradient` | (8,) | -1 | 1 | change of the round-trip time per time |
    | `send_ratio` | (8,) | 0 | 10 | sent over acknowledged |
    | `throughput_ratio` | (8,) | 0 | 10 | throughput over the present rate |
    | `rate_mbps` | (1,) | 0 | any | Mbit/s, the sending rate |
    | `inflight_packets` | (1,) | 0 | any | packets of which nothing is known yet |
    | `min_rtt_ms` | (1,) | 0 | any | ms, shortest round trip so far |
    | `interval_ms` | (1,) | 0 | any | ms, length of an interval |
    | `reward` | (1,) | any | any | utility of the last interval |

    ## Reward
    Utility of the interval: (throughput - 5 lost) / capacity · min(1, 1.25 shortest round trip /
    round trip), see `netllm_sims.cc.utility`. `info` holds `link`, the link's id.

    ## Start
    `reset` begins with 10 packets per round trip. Part `train` draws a random link; `valid` and
    `test` draw one of their fixed links. `reset(options={"link": k})` plays fixed link number k.

    ## End
    Terminates after 300 intervals by default; never truncates.

    ## Picture
    With `render_mode="rgb_array"` or `"human"`: capacity, what was sent and acknowledged, and round
    trips below.

    ## Arguments
    `gymnasium.make("netllm_sims:netllm/CC-v0", setting="default", part="train", data=None,
    render_mode=None, **overrides)`: a setting's name or a `Setting`, the part, the data folder
    (NETLLM_DATA by default), how it is shown, and any field of the setting.

    ## Versions
    v0: first release.
    """

    named = staticmethod(named)
    setting: Setting

    def _prepare(self) -> None:
        self._intervals: list[interval_picture.Interval] = []
        self._fixed = self.setting.links(self.part)
        self.action_space = spaces.Discrete(len(FACTORS))  # type: ignore[assignment]
        fields: dict[str, spaces.Space[Any]] = {name: _box((HISTORY,)) for name in SERIES}
        fields |= {name: _box((1,)) for name in _SCALARS}
        fields |= {"loss": _box((HISTORY,), high=1.0), "reward": _box((1,), low=-_ANY)}
        fields["rtt_gradient"] = _box((HISTORY,), low=-1.0, high=1.0)
        ratio = _box((HISTORY,), high=MOST_RATIO)
        fields |= {"send_ratio": ratio, "throughput_ratio": ratio}
        self.observation_space = spaces.Dict(fields)  # type: ignore[assignment]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin on a link; see the class for how it is chosen."""
        super().reset(seed=seed)
        link = self._choose((options or {}).get("link"))
        self._simulator = Simulator([link], self.setting.intervals)
        self._simulator.reset()
        self._intervals.clear()
        return self._observe(), {"link": link.id}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Send through the next interval at the rate that the action leads to."""
        capacity_mbps = float(self._simulator.coming_mbps[0])
        seen, reward, over = self._simulator.step(np.array([action]))
        newest = (float(seen[name][0, -1]) for name in ("sent_mbps", "throughput_mbps", "rtt_ms"))
        self._intervals.append(interval_picture.Interval(capacity_mbps, *newest))
        info = {"link": self._simulator.links[0].id}
        return self._observe(), float(reward[0]), bool(over[0]), False, info

    def _choose(self, number: int | None) -> Link:
        if number is not None:
            if not 0 <= number < len(self._fixed):
                raise ValueError(
                    f"`options['link']` must lie between 0 and {len(self._fixed) - 1}, "
                    f"got {number}."
                )
            return self._fixed[number]
        if self.part == "train":
            seed = int(self.np_random.integers(1, 2**31))
            return self.setting.links("train", episodes=1, seed=seed)[0]
        return self._fixed[int(self.np_random.integers(len(self._fixed)))]

    def _observe(self) -> Observation:
        seen = self._simulator.observation
        self._refresh()
        return {name: np.array(value[0]).reshape(-1) for name, value in seen.items()}

    def _draw(self, figure: Any) -> None:
        interval_picture.draw(self._intervals, figure, total=self.setting.intervals)


def _box(shape: tuple[int, ...], *, low: float = 0.0, high: float = _ANY) -> spaces.Box:
    return spaces.Box(np.float32(low), np.float32(high), shape, np.float32)
