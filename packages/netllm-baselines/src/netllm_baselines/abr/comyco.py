"""Comyco: Pensieve's network, taught by an expert that knows the future."""

from importlib.resources import files
from pathlib import Path

from jaxtyping import Int
from netllm_sims.abr import Setting
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation
from netllm_baselines.abr.pensieve_network import PensieveNetwork, inputs


class Comyco:
    """The level that an expert who knew the coming bandwidth would most probably take.

    Args:
        setting: Its ladder must have as many rates as the weights.
        weights: A `.npz` written by `train_comyco`, or a network; None takes the shipped one,
            trained on `default`.

    Raises:
        ValueError: The weights are for a ladder of another length, or no such weights.
        FileNotFoundError: There is no such file.

    Source: Huang et al., MM 2019. Differences: the quality of a chunk is that of the setting's QoE,
    not VMAF; the network is Pensieve's, without a recurrent layer; see also `train_comyco`.
    """

    def __init__(
        self, setting: Setting, *, weights: Path | str | PensieveNetwork | None = None
    ) -> None:
        if weights is None:
            weights = self.shipped()
        self.network = (
            weights
            if isinstance(weights, PensieveNetwork)
            else PensieveNetwork.load(Path(weights), "comyco")
        )
        if self.network.levels != setting.video.levels:
            raise ValueError(
                f"Comyco's weights must fit the ladder: they choose among {self.network.levels} "
                f"rates, setting {setting.name!r} has {setting.video.levels}. Train your own: "
                "netllm train-baseline abr comyco --out FILE.npz."
            )

    @staticmethod
    def shipped() -> Path:
        """Where the weights lie in this package."""
        return Path(str(files("netllm_baselines.abr") / "weights" / "comyco.npz"))

    def reset(self, seed: int) -> None:
        """Do nothing: the observation says it all."""

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        return self.network.logits(inputs(observation)).argmax(axis=1)
