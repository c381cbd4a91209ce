"""GRU with side information: the learned rival where a service knows more than the history."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm_sims.vp.geometry import turned
from netllm_sims.vp.side_fields import VIEWERS, fitted, shown

from netllm_baselines.vp._learned_policy import Learned, load_into
from netllm_baselines.vp._observed_angles import Observation
from netllm_baselines.vp.weights_file import Weights

if TYPE_CHECKING:
    from netllm_sims.vp import Setting
    from torch import Tensor


class GRUSide(Learned):
    """A gated recurrent unit that reads the viewer's past and follows other viewers.

    It sees what an adapted model sees in the same setting: the memory, and the viewers of the crowd
    who were nearest. What a setting shows less of is not known; beyond what it shows of other
    viewers' future their last points are held. The shipped weights are `gru-side-default.npz`
    (trained on the train part of `crowd-memory`, with viewers and memory hidden at random) and
    `gru-side-synthetic.npz`, taken by where the setting's trajectories come from.

    Args:
        setting: Names horizon, history and rate.
        weights: A `.npz` written by `train_gru_side`, or its content; None takes the shipped one.

    Raises:
        ImportError: torch is missing.
        FileNotFoundError: There is no such file.
        ValueError: The setting shows neither memory nor crowd, or the weights are for longer
            histories or another rate.

    Source: see `gru_side_network`.
    """

    kind = "gru-side"

    def __init__(self, setting: "Setting", *, weights: Path | str | Weights | None = None) -> None:
        super().__init__(setting, weights)

    def _shipped(self, setting: "Setting") -> Path:
        if not (setting.memory or setting.crowd):
            raise ValueError(
                f"gru-side knows a memory or a crowd, setting {setting.name!r} shows neither. Use "
                "gru, or choose --setting crowd-memory."
            )
        return super()._shipped(setting)

    def _train(self) -> str:
        return f"netllm train-baseline vp {self.kind} --setting crowd-memory --out FILE.npz"

    def _build(self) -> Any:
        meta = self.weights.meta

        def make() -> Any:
            from netllm_baselines.vp.gru_side_network import network

            return network(
                hidden=meta["hidden"],
                horizon=meta["horizon"],
                memory=meta["memory"] > 0,
                crowd=meta["crowd"],
            )

        return load_into(make, self.weights, kind=self.kind)

    def _content(self, observation: Observation, *, later: int) -> "dict[str, Tensor]":
        from netllm_baselines.vp._training_windows import side_tensors

        meta = self.weights.meta
        history = turned(observation["viewport_deg"], self._turn_deg)
        viewers = VIEWERS if meta["crowd"] else 0
        fields = shown(observation, history, self._turn_deg, memory=meta["memory"], viewers=viewers)
        first = history.shape[1] + later - self._points
        crowd = first + self._points + meta["horizon"] if viewers else 0
        fields = fitted(fields, batch=len(history), memory=meta["memory"], crowd=crowd)
        if crowd:
            fields["crowd_deg"] = fields["crowd_deg"][:, :, first:]
        return side_tensors(fields)
