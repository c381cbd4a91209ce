"""Multimodal encoders: observations to token vectors."""

from typing import TYPE_CHECKING, Any

from netllm_encoders.fields import FieldEncoder, field_encoder, kinds
from netllm_encoders.projection import Projection
from netllm_encoders.scalar import Scalar
from netllm_encoders.series import Series
from netllm_encoders.step import Step
from netllm_encoders.viewport import Viewport

if TYPE_CHECKING:
    from netllm_encoders.graph import Graph

__all__ = [
    "FieldEncoder",
    "Graph",
    "Projection",
    "Scalar",
    "Series",
    "Step",
    "Viewport",
    "field_encoder",
    "kinds",
]


def __getattr__(name: str) -> Any:
    if name == "Graph":  # needs torch-geometric, which the others do without
        from netllm_encoders.graph import Graph

        return Graph
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
