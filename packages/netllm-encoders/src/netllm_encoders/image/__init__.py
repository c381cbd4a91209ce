"""Equirectangular frames: features of a frozen vision model, and one token made of them.

`FrameFeatures` computes with timm, the extra `vision`; `Image` needs torch only.
"""

from netllm_encoders.image.features import FrameFeatures
from netllm_encoders.image.token import Image, centred

__all__ = ["FrameFeatures", "Image", "centred"]
