"""What both environments of job scheduling share: which episode runs, and its picture."""

from dataclasses import replace
from typing import Any

import numpy as np

from netllm_sims.cjs.episodes import Episode, Sampled
from netllm_sims.cjs.settings import Setting
from netllm_sims.cjs.settings import setting as named
from netllm_sims.cjs.simulator import Simulator
from netllm_sims.cjs.train_valid_test import DRAWN, check, seeds
from netllm_sims.gymnasium_env_base import SettingEnv


class EpisodeEnv(SettingEnv):
    """An environment that runs one episode of a setting's part at a time."""

    named = staticmethod(named)
    setting: Setting

    def _prepare(self) -> None:
        check(self.part)
        self._fixed = seeds(self.part, None, 0)
        self._simulator: Simulator | None = None

    @property
    def simulator(self) -> Simulator:
        """The running episode."""
        if self._simulator is None:
            raise RuntimeError("`reset` must come first.")
        return self._simulator

    def _begin(self, number: int | None, rng: np.random.Generator) -> dict[str, Any]:
        """Start fixed episode `number` of the part, or a random one; gives its `info`."""
        episode = self._choose(number, rng)
        self._simulator = Simulator(self.setting, episode, log=self.render_mode is not None)
        return {"episode_id": episode.id}

    def _ended(self) -> dict[str, Any]:
        """What `info` holds at the end."""
        simulator = self.simulator
        return {
            "jct_s": float(simulator.jct_s.mean()),
            "makespan_s": simulator.time_ms * 1e-3,
            "utilisation": simulator.utilisation,
        }

    def _choose(self, number: int | None, rng: np.random.Generator) -> Episode:
        if number is not None:
            if not 0 <= number < len(self._fixed):
                raise ValueError(
                    f"`options['episode']` must lie between 0 and {len(self._fixed) - 1}, "
                    f"got {number}."
                )
            return self.setting.episodes(self.part, seeds=[self._fixed[number]])[0]
        if self.part == "train":
            sequence = int(rng.integers(*DRAWN["train"]))
        else:
            sequence = self._fixed[int(rng.integers(len(self._fixed)))]
        episode = self.setting.episodes(self.part, seeds=[sequence])[0]
        return replace(episode, durations=Sampled(int(rng.integers(2**31))))

    def _draw(self, figure: Any) -> None:
        from netllm_sims.cjs.gantt import gantt

        simulator = self.simulator
        gantt(simulator, figure.subplots()).set(
            title=f"{np.isfinite(simulator.jct_s).sum()} of {self.setting.num_jobs} jobs done",
            ylim=(-0.5, self.setting.num_executors - 0.5),
        )
