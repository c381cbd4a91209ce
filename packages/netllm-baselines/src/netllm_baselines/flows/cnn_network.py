"""The network of the CNN rival, in torch."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CNNNetwork(nn.Module):
    """Logits of the classes: convolutions over the packets, beside headers and statistics.

    Of each packet it sees the logarithms of size, with the sign of its direction, and gap, and
    whether there is one. Three convolutions, then mean and largest of every channel over packets.

    Args:
        classes: Number of classes.
        statistics: Number of statistics.
        hidden: Channels.
        dropout: Share of the features that is hidden in training.
    """

    def __init__(self, *, classes: int, statistics: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(3, hidden, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(hidden, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv1d(hidden, hidden, 3, padding=2, dilation=2),
            nn.GELU(),
        )
        self.beside = nn.Sequential(nn.Linear(2 + statistics, hidden), nn.GELU())
        self.out = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(3 * hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch class"]:
        """Logits of each flow."""
        sizes, gaps = observation["sizes_bytes"], observation["gaps_ms"]
        there = (sizes != 0).float()
        packets = torch.stack([_logarithm(sizes / 100), _logarithm(gaps / 5), there], 1)
        channels = self.convolutions(packets)  # (batch, channel, packet)
        headers = [observation["protocol"] / 6, _logarithm(observation["server_port"] / 100)]
        beside = torch.stack(headers, 1)
        if "statistics" in observation:
            beside = torch.cat([beside, _logarithm(observation["statistics"])], 1)
        pooled = [channels.mean(2), channels.amax(2), self.beside(beside)]
        logits: Tensor = self.out(torch.cat(pooled, 1))
        return logits


def _logarithm(values: Tensor) -> Tensor:
    return values.sign() * values.abs().log1p()


def tensors(observation: Mapping[str, object]) -> dict[str, Tensor]:
    """An observation in float32."""
    return {name: torch.as_tensor(values).float() for name, values in observation.items()}
