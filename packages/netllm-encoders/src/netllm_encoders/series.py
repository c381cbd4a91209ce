"""Features of a short series of numbers per step."""

from jaxtyping import Float, Num
from torch import Tensor, nn

from netllm_encoders.scalar import check_scale, scaled


class Series(nn.Module):
    """Features of a series per step: a one-dimensional convolution over it, then an MLP.

    A step's value has shape `(length,)`, or `(length, channels)` when `channels` is given
    (`(6, levels)` chunk sizes: six chunks, one channel per level). Values must be finite; that
    is not checked, for it would cost more than the encoding.

    Args:
        hidden: Number of features, of the convolution too.
        length: Rows of the series as it comes.
        channels: Numbers per row; None for a series without that axis.
        take: How many of the first rows are used; None for all.
        kernel: Rows that one convolution sees; at most the rows used.
        scale: Divides the values; in the field's own unit.
        log: Whether the logarithm of the scaled values is taken, see `scalar.scaled`.

    Raises:
        ValueError: If a setting is out of range.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.1, "1D-CNN for
    time-series and sequence data".
    """

    def __init__(
        self,
        *,
        hidden: int,
        length: int,
        channels: int | None = None,
        take: int | None = None,
        kernel: int = 3,
        scale: float = 1.0,
        log: bool = False,
    ) -> None:
        super().__init__()
        self.shape = (length,) if channels is None else (length, channels)
        if min(*self.shape, kernel) < 1:
            raise ValueError(
                "`length`, `channels` and `kernel` must be at least 1, "
                f"got {length}, {channels} and {kernel}."
            )
        self.take = length if take is None else take
        if not 1 <= self.take <= length:
            raise ValueError(f"`take` must lie between 1 and `length` = {length}, got {take}.")
        self.scale = check_scale(scale)
        self.log = log
        kernel = min(kernel, self.take)
        self.convolution = nn.Conv1d(channels or 1, hidden, kernel, padding=kernel // 2)
        rows = self.take + 2 * (kernel // 2) - kernel + 1
        self.layers = nn.Sequential(nn.GELU(), nn.Linear(hidden * rows, hidden), nn.GELU())

    def forward(
        self, values: Num[Tensor, "batch step *shape"]
    ) -> Float[Tensor, "batch step hidden"]:
        """The features of every step's series.

        Raises:
            ValueError: If the values do not have the declared shape.
        """
        if values.shape[2:] != self.shape:
            raise ValueError(
                f"must have shape (batch, step, {', '.join(map(str, self.shape))}), got "
                f"{tuple(values.shape)}. Are `length` and `channels` declared as observed?"
            )
        batch, step = values.shape[:2]
        values = scaled(values[:, :, : self.take], scale=self.scale, log=self.log)
        rows = values.reshape(
            batch * step, self.take, self.convolution.in_channels
        )  # (batch * step, row, channel)
        features: Tensor = self.layers(self.convolution(rows.mT).flatten(1))
        return features.view(batch, step, features.shape[-1])
