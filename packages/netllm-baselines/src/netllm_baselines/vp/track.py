"""TRACK: recurrent networks for position and content, fused."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from netllm_sims.vp import Setting

from netllm_baselines.vp._learned_policy import Learned, load_into
from netllm_baselines.vp._observed_angles import Observation
from netllm_baselines.vp.saliency import Maps
from netllm_baselines.vp.weights_file import Weights

if TYPE_CHECKING:
    from torch import Tensor


class TRACK(Learned):
    """An encoder and a decoder of LSTMs for positions, saliency and their fusion; step by step.

    The shipped weights are `track-default.npz` (trained on the train part of `default`, Jin2022,
    whose frames are not public: no saliency), `track-synthetic.npz` and, with saliency,
    `track-saliency-synthetic.npz`; how they were made is in `weights.meta`. Needs torch.

    Args:
        setting: Names horizon, history and rate, and gives the frames.
        saliency: Read maps of the frames too, of coming ones as well: the video is known. The
            setting must have frames.
        weights: A `.npz` written by `train_track`, or its content; None takes the shipped one.

    Raises:
        ImportError: torch is missing.
        FileNotFoundError: There is no such file: nothing is shipped with saliency but for
            synthetic settings.
        ValueError: The weights are for longer histories, another rate or the other `saliency`.

    Source: Rondón et al., "TRACK: A New Method From a Re-Examination of Deep Architectures for
        Head Motion Prediction in 360° Videos", TPAMI 2022, as laid out in NetLLM, commit 105bcf07.
        Differences to the latter: the decoder starts from the last observed point (there: from the
        first future one), the fusing state advances in the decoder (there: it stays), errors wrap
        (there: normalised inputs, raw targets), narrower, and maps of 16 x 32 from a formula in
        place of 224 x 224 from a network.
    """

    kind = "track"

    def __init__(
        self,
        setting: Setting,
        *,
        saliency: bool = False,
        weights: Path | str | Weights | None = None,
    ) -> None:
        self.saliency = saliency
        super().__init__(setting, weights)
        self._maps = Maps(
            setting,
            before=self._points,
            after=self.weights.meta["horizon"],
            turn_deg=self._turn_deg,
        )

    @property
    def _name(self) -> str:
        return "track-saliency" if self.saliency else "track"

    def _train(self) -> str:
        return super()._train() + (" --train saliency=true" if self.saliency else "")

    def _fitting(self, setting: Setting) -> int:
        if "saliency" not in self.weights.meta:
            raise ValueError("the metadata of track weights must say `saliency`, got none.")
        if self.weights.meta["saliency"] != self.saliency:
            trained, asked = (
                "with" if yes else "without" for yes in (not self.saliency, self.saliency)
            )
            raise ValueError(
                f"these track weights were trained {trained} saliency, TRACK was asked for {asked}:"
                f" pass saliency={not self.saliency}, or other weights; netllm test vp --policy "
                f"{'track' if self.saliency else 'track-saliency'}:FILE.npz."
            )
        return super()._fitting(setting)

    def _build(self) -> Any:
        def make() -> Any:
            from netllm_baselines.vp.track_network import network

            meta = self.weights.meta
            return network(
                hidden=meta["hidden"], horizon=meta["horizon"], saliency=meta["saliency"]
            )

        return load_into(make, self.weights, kind=self.kind)

    def _content(self, observation: Observation, *, later: int) -> "Tensor | None":
        if not self.saliency:
            return None
        import torch

        time_s = np.asarray(observation["time_s"], dtype=np.float64)
        shown = self._maps.numbers(observation["video"], time_s + later / self._setting.rate_hz)
        return torch.from_numpy(self._maps.known()[shown])


TRACKSaliency = partial(TRACK, saliency=True)
"""`TRACK` that reads saliency maps of the frames too."""
