"""Quality of experience (QoE) of a streaming session."""

from dataclasses import dataclass
from math import isfinite

from jaxtyping import Float
from numpy import abs as absolute
from numpy import ndarray


@dataclass(frozen=True, kw_only=True)
class QoE:
    """Weights of the linear QoE: `Mbps - rebuffering * stall_s - smoothness * |change in Mbps|`.

    Source: Yin et al., SIGCOMM 2015, section 3; weights of Pensieve (Mao et al., SIGCOMM 2017) and
    NetLLM.
    """

    rebuffering: float = 4.3
    """Penalty per second without playback, in Mbps."""
    smoothness: float = 1.0
    """Penalty per Mbps of change between two chunks."""

    def __post_init__(self) -> None:
        for name in ("rebuffering", "smoothness"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be a finite weight >= 0, got {value}.")

    def __call__(
        self,
        bitrate_mbps: Float[ndarray, "*chunk"],
        rebuffer_s: Float[ndarray, "*chunk"],
        smoothness_mbps: Float[ndarray, "*chunk"],
    ) -> Float[ndarray, "*chunk"]:
        """QoE of each chunk from its three parts, in Mbps."""
        return (
            bitrate_mbps
            - self.rebuffering * rebuffer_s
            - self.smoothness * absolute(smoothness_mbps)
        )
