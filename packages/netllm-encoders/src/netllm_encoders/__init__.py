"""Multimodal encoders: observations to token vectors."""

from netllm_encoders.fields import FieldEncoder, field_encoder, kinds
from netllm_encoders.graph import Graph
from netllm_encoders.points import Points
from netllm_encoders.projection import Projection
from netllm_encoders.scalar import Scalar
from netllm_encoders.series import Series
from netllm_encoders.single import Fields
from netllm_encoders.step import Step
from netllm_encoders.viewport import Viewport

__all__ = [
    "FieldEncoder",
    "Fields",
    "Graph",
    "Points",
    "Projection",
    "Scalar",
    "Series",
    "Step",
    "Viewport",
    "field_encoder",
    "kinds",
]
