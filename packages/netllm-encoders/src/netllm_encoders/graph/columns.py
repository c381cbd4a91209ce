"""The declared scaling of a table's columns."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_encoders.scalar import check_scale, scaled


class Columns(nn.Module):
    """Scales every column of a table as it is declared.

    Args:
        table: Name of the table, for error messages.
        settings: Per column, in order, `scale` (1 if not given) and `log` (False if not given),
            see `scalar.scaled`.

    Raises:
        ValueError: If a setting is unknown or out of range.
    """

    def __init__(self, table: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.names = tuple(settings)
        scales = []
        for name, column in settings.items():
            if unknown := sorted(set(column) - {"scale", "log"}):
                raise ValueError(
                    f"{table}: column {name!r}: unknown setting {unknown[0]!r}. "
                    "A column has: scale, log."
                )
            try:
                scales.append(check_scale(column.get("scale", 1.0)))
            except ValueError as error:
                raise ValueError(f"{table}: column {name!r}: {error}") from error
        self.scale: Tensor
        self.log: Tensor
        self.register_buffer("scale", torch.tensor(scales), persistent=False)
        logs = [bool(column.get("log", False)) for column in settings.values()]
        self.register_buffer("log", torch.tensor(logs), persistent=False)

    def forward(self, values: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
        """Every column scaled, with the logarithm where it is declared."""
        values = values / self.scale
        return torch.where(self.log, scaled(values, scale=1.0, log=True), values)

    def sums(self, values: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
        """Sums of columns scaled, with the logarithm always: they have no typical size."""
        return scaled(values / self.scale, scale=1.0, log=True)
