"""Equirectangular frames: features of a frozen vision model, and one token made of them."""

from netllm_encoders.image.token import Image, centred

__all__ = ["Image", "centred"]
