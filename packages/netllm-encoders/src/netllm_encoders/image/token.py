"""Features of a frame's grid, seen from where the viewer looks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_FLOOR = 1e-4  # variance of a grid below which it counts as uniform


class Image(nn.Module):
    """One feature vector per frame: where, relative to the viewer, is something.

    A frame comes as a grid of feature vectors of the whole sphere, as `FrameFeatures` gives it. It
    is centred on its mean over the cells and divided by its standard deviation. An MLP shared by
    all cells takes each to a few channels (is something there?); the grid is turned until its
    middle is the viewer's yaw, see `centred`; another MLP reads all cells at once (where?). So a
    thing 30 degrees to the right of the viewer looks the same wherever the viewer stands. Rows are
    not shifted, for the sphere has poles: the MLP gets the viewer's pitch beside the cells.

    Args:
        hidden: Number of features.
        rows: Rows of the grid, from the zenith (pitch 90) to the nadir.
        columns: Columns of the grid, from yaw -180 to 180.
        channels: Features of a cell.
        reduced: Channels that are left of them.

    Raises:
        ValueError: If a setting is below 1.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.1, encodes images with a frozen ViT and one
    linear layer. Its public code takes one vector of the whole frame; the grid is ours.
    """

    def __init__(
        self, *, hidden: int, rows: int, columns: int, channels: int, reduced: int = 16
    ) -> None:
        super().__init__()
        if min(hidden, rows, columns, channels, reduced) < 1:
            raise ValueError(
                "`hidden`, `rows`, `columns`, `channels` and `reduced` must be at least 1, "
                f"got {hidden}, {rows}, {columns}, {channels} and {reduced}."
            )
        self.shape = (rows, columns, channels)
        self.cells = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, reduced), nn.GELU()
        )
        self.layers = nn.Sequential(
            nn.Linear(rows * columns * reduced + 1, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
        )

    def forward(
        self,
        grid: Float[Tensor, "batch rows columns channels"],
        viewport_deg: Float[Tensor, "batch 3"],
    ) -> Float[Tensor, "batch hidden"]:
        """The features of every frame, for a viewer who looks at roll, pitch and yaw in degrees.

        Raises:
            ValueError: If the grid does not have the declared shape.
        """
        if grid.shape[1:] != self.shape:
            raise ValueError(
                f"must have shape (batch, {', '.join(map(str, self.shape))}), got "
                f"{tuple(grid.shape)}. Are the features of the model and grid declared in `image`?"
            )
        grid, viewport_deg = grid.float(), viewport_deg.float()
        grid = grid - grid.mean((1, 2), keepdim=True)
        grid = grid * (grid.square().mean((1, 2, 3), keepdim=True) + _FLOOR).rsqrt()
        cells = centred(self.cells(grid), viewport_deg[:, 2]).flatten(1)
        features: Tensor = self.layers(torch.cat([cells, viewport_deg[:, 1:2] / 90], dim=1))
        return features


def centred(
    grid: Float[Tensor, "batch rows columns channels"], yaw_deg: Float[Tensor, "batch"]
) -> Float[Tensor, "batch rows columns channels"]:
    """The grid turned about the vertical axis until `yaw_deg` lies in its middle.

    The grid spans yaw -180 to 180; between columns it is interpolated linearly, across the seam
    too.
    """
    columns = grid.shape[2]
    shift = yaw_deg * (columns / 360)
    whole = shift.floor()
    share = (shift - whole)[:, None, None, None].to(grid.dtype)
    column = torch.arange(columns, device=grid.device) + whole.long()[:, None]
    left, right = (
        grid.gather(2, index.remainder(columns)[:, None, :, None].expand_as(grid))
        for index in (column, column + 1)
    )
    return torch.lerp(left, right, share)
