"""Features on disk, one file per frame, found by content."""

import hashlib
import io
import json
import logging
import os
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, UInt8
from numpy import ndarray

_logger = logging.getLogger(__name__)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError)


def digest(frame: UInt8[ndarray, "height width 3"]) -> str:
    """The sha256 of a frame's shape and pixels."""
    content = hashlib.sha256(repr(frame.shape).encode())
    content.update(np.ascontiguousarray(frame).data)
    return content.hexdigest()


class Cache:
    """Features of frames by content, in a folder of their settings below `folder`.

    A file appears under its name only when it is complete, so a crash leaves no half of one and
    several processes may share the folder. Files carry a checksum: one that is damaged counts as
    absent, and is written anew.

    Args:
        folder: Made when it is not there.
        settings: All that the features depend on beside the frame; ready for JSON.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, indent=1)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._replace(self.folder / "settings.json", text.encode())

    def path(self, digest: str) -> Path:
        """The file of the frame with that digest."""
        return self.folder / digest[:2] / f"{digest}.npz"

    def read(self, digest: str) -> Float16[ndarray, "rows columns channels"] | None:
        """The features of the frame with that digest; None if they are absent or damaged."""
        path = self.path(digest)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                features: ndarray = content["features"]
            if features.dtype != np.float16 or features.ndim != 3:
                raise ValueError(f"{features.dtype} {features.shape}")
        except FileNotFoundError:
            return None
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # the file cannot be opened; zipfile's own errors of damage name none
            _logger.warning("%s is damaged (%s); it is computed again.", path, error)
            return None
        return features

    def write(self, digest: str, features: Float16[ndarray, "rows columns channels"]) -> None:
        """Keeps the features of the frame with that digest."""
        path = self.path(digest)
        path.parent.mkdir(exist_ok=True)
        # older NumPy hides the error of a full disk behind one of its own
        content = io.BytesIO()
        np.savez(content, features=features)
        self._replace(path, content.getvalue())

    def _replace(self, path: Path, content: bytes) -> None:
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            said = f"{error.strerror}. Is the disk full? Free space, or choose another cache folder"
            raise OSError(error.errno, said, str(path)) from error
        finally:
            part.unlink(missing_ok=True)
