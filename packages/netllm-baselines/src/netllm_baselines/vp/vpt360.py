"""VPT360: a transformer that reads the past scanpath alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm_baselines.vp._learned_policy import Learned, load_into
from netllm_baselines.vp.weights_file import Weights

if TYPE_CHECKING:
    from netllm_sims.vp import Setting


class VPT360(Learned):
    """The encoder of a transformer over the known points; all steps in one shot.

    The shipped weights are `vpt360-default.npz` (trained on the train part of `default`, Jin2022)
    and `vpt360-synthetic.npz`, taken by where the setting's trajectories come from; how they were
    made is in `weights.meta`. Needs torch.

    Args:
        setting: Names horizon, history and rate.
        weights: A `.npz` written by `train_vpt360`, or its content; None takes the shipped one.

    Raises:
        ImportError: torch is missing.
        FileNotFoundError: There is no such file.
        ValueError: The weights are for longer histories or another rate.

    Source: Chao, Ozcinar and Smolic, "Transformer-based Long-Term Viewport Prediction in 360°
        Video: Scanpath is All You Need", MMSP 2021, whose idea is kept: the encoder of a
        transformer, no decoder, reads the past scanpath and nothing else, and gives the whole
        scanpath to come. Written from the paper, not from its code. Differences: points are three
        angles as offsets from the last one (there: places on the sphere, without tilt), and what
        is learned is the task's error. Width, heads and number of blocks are ours, and the rest of
        the recipe is the GRU's.
    """

    kind = "vpt360"

    def __init__(self, setting: "Setting", *, weights: Path | str | Weights | None = None) -> None:
        super().__init__(setting, weights)

    def _build(self) -> Any:
        def make() -> Any:
            from netllm_baselines.vp.vpt360_network import network

            return network(hidden=self.weights.meta["hidden"], horizon=self.weights.meta["horizon"])

        return load_into(make, self.weights, kind=self.kind)
