"""Frames to grids of features of a frozen ViT."""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16
from numpy import ndarray
from torch import Tensor, nn

from netllm_encoders.image.cache import Cache, digest
from netllm_encoders.image.vit import RANDOM, existing, needed, patch_size, vit


class FrameFeatures:
    """Features of equirectangular frames: a ViT's patch tokens, averaged over a grid's cells.

    A frame is resized to `image_size` (twice as wide as high, which keeps its geometry), each
    channel normalised as the model was trained, and passed through the frozen model; the tokens of
    its patches, prefix tokens left out, are averaged over the cells of the grid. With a cache every
    frame's content is computed once per model, weights, block, size and grid; if all frames are
    cached, the model is not even built.

    Args:
        model: timm's name of a ViT, such as `vit_tiny_patch16_224` or
            `vit_small_patch14_dinov2.lvd142m`.
        weights: None for those that timm names, from its hub; "random"; or a safetensors file.
        seed: Of random weights.
        block: Block whose tokens are taken, from 0, or from the end if negative; None for the
            last, with the model's final norm.
        image_size: Height and width in pixels that the model sees.
        grid: Rows and columns; the patches must fill every cell alike.
        batch: Frames per pass.
        device: Where the model runs.
        cache: Folder of the features on disk; None for none.

    Raises:
        ModuleNotFoundError: If timm is not installed.
        ValueError: If a setting is out of range; the model's own are found out when it is built.
        FileNotFoundError: If `weights` is a file that is not there.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.1, a frozen ViT for images. Its public code
    stores one vector per frame; a grid tells where in the frame something is.
    """

    def __init__(
        self,
        *,
        model: str = "vit_tiny_patch16_224",
        weights: str | Path | None = None,
        seed: int = 0,
        block: int | None = None,
        image_size: tuple[int, int] = (128, 256),
        grid: tuple[int, int] = (8, 16),
        batch: int = 64,
        device: str | torch.device = "cpu",
        cache: str | Path | None = None,
    ) -> None:
        if min(*image_size, *grid, batch) < 1:
            raise ValueError(
                "`image_size`, `grid` and `batch` must be at least 1, "
                f"got {image_size}, {grid} and {batch}."
            )
        self.name = model
        self.weights = weights
        self.seed = seed
        self.block = block
        self.image_size = image_size
        self.grid = grid
        self.batch = batch
        self.device = torch.device(device)
        self.settings = self._settings()
        self.cache = None if cache is None else Cache(Path(cache), self.settings)

    def __call__(
        self, frames: Iterable[Any], *, progress: bool | None = None
    ) -> Float16[ndarray, "frame rows columns channels"]:
        """The grids of features of all frames, in order; equal frames are computed once.

        Args:
            frames: uint8 `(height, width, 3)`, RGB, yaw -180 to 180 from left to right, pitch 90
                to -90 from top to bottom. Read one after the other; only a batch, resized, is kept.
            progress: Whether a bar is shown on stderr; None for where that is a terminal.

        Raises:
            ModuleNotFoundError: If timm is not installed.
            ValueError: If a frame has another shape or type, or the settings do not fit the model.
            OSError: If timm's weights cannot be had, or the cache cannot be written.
        """
        known: dict[str, int] = {}
        rows: list[ndarray | None] = []
        pending: dict[str, Tensor] = {}
        order = []
        for index, frame in enumerate(_shown(frames, progress)):
            frame = _checked(frame, index)
            key = digest(frame)
            if key not in known:
                known[key] = len(rows)
                rows.append(None if self.cache is None else self.cache.read(key))
                if rows[-1] is None:
                    pending[key] = self._prepared(frame)
            order.append(known[key])
            if len(pending) == self.batch:
                self._compute(pending, known, rows)
        if pending:
            self._compute(pending, known, rows)
        if not order:
            return np.zeros((0, *self.grid, self.image["channels"]), np.float16)
        return np.stack([rows[row] for row in order])  # type: ignore[arg-type, misc]

    @property
    def image(self) -> dict[str, int]:
        """Shape of a grid: what `Viewport(image=…)` declares. Builds the model."""
        rows, columns = self.grid
        channels = int(self.model.num_features)  # type: ignore[arg-type]
        return {"rows": rows, "columns": columns, "channels": channels}

    @cached_property
    def model(self) -> nn.Module:
        """The frozen model, built when it is first asked for.

        Raises:
            ModuleNotFoundError: If timm is not installed.
            ValueError: If the settings do not fit the model.
            OSError: If timm's weights cannot be had.
        """
        model = vit(self.name, weights=self.weights, seed=self.seed, image_size=self.image_size).to(
            self.device
        )
        blocks = len(model.blocks)  # type: ignore[arg-type]
        if self.block is not None and not -blocks <= self.block < blocks:
            raise ValueError(
                f"`block` must name one of the {blocks} blocks of {self.name!r}, from 0 to "
                f"{blocks - 1}, got {self.block}."
            )
        patch = patch_size(model)
        patches = self.image_size[0] // patch[0], self.image_size[1] // patch[1]
        if patches[0] % self.grid[0] or patches[1] % self.grid[1]:
            raise ValueError(
                f"`grid` must divide the {patches[0]} x {patches[1]} patches of {self.name!r} "
                f"(image_size={self.image_size}), got {self.grid[0]} x {self.grid[1]}."
            )
        return model

    def _settings(self) -> dict[str, Any]:
        """All that the features depend on, ready for JSON."""
        if self.weights is None:
            weights = "timm"
        elif self.weights == RANDOM:
            # Another release may draw other weights from the same seed.
            releases = [f"{name} {needed(name).__version__}" for name in ("torch", "timm")]
            weights = ", ".join([f"random, seed {self.seed}", *releases])
        else:
            with existing(Path(self.weights)).open("rb") as file:
                weights = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
        return {
            "model": self.name,
            "weights": weights,
            "block": self.block,
            "image_size": list(self.image_size),
            "grid": list(self.grid),
            "preprocessing": "bilinear, antialiased; the model's mean and standard deviation",
        }

    def _prepared(self, frame: ndarray) -> Tensor:
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].float() / 255
        if pixels.shape[2:] != self.image_size:
            pixels = nn.functional.interpolate(
                pixels, self.image_size, mode="bilinear", antialias=True
            )
        config: Any = self.model.pretrained_cfg
        mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
        return (pixels[0] - mean) / std

    def _compute(
        self, pending: dict[str, Tensor], known: dict[str, int], rows: list[ndarray | None]
    ) -> None:
        for key, features in zip(pending, self._features(list(pending.values())), strict=True):
            rows[known[key]] = features
            if self.cache is not None:
                self.cache.write(key, features)
        pending.clear()

    @torch.inference_mode()
    def _features(self, pixels: list[Tensor]) -> ndarray:
        tokens = self.model.forward_intermediates(  # type: ignore[operator]
            torch.stack(pixels).to(self.device),
            indices=[-1 if self.block is None else self.block],
            norm=self.block is None,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )[0]
        cells = nn.functional.adaptive_avg_pool2d(tokens, self.grid).permute(0, 2, 3, 1)
        features: ndarray = cells.half().cpu().numpy()
        if not np.isfinite(features).all():
            raise ValueError(
                f"features of {self.name!r} must be finite as float16, got some that are not. "
                "Take the last block (block=None), which the model norms; or are weights damaged?"
            )
        return features


def _checked(frame: Any, index: int) -> ndarray:
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError(
            f"frame {index} must be uint8 of shape (height, width, 3), got {frame.dtype} of shape "
            f"{frame.shape}. Is it RGB from 0 to 255?"
        )
    return frame


def _shown(frames: Iterable[Any], progress: bool | None) -> Iterable[Any]:
    hidden = None if progress is None else not progress
    bar: Iterable[Any] = needed("tqdm").tqdm(frames, desc="features", unit="frame", disable=hidden)
    return bar
