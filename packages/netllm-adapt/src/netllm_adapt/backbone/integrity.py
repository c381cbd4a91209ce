"""Whether what was pulled is still what was pulled."""

import logging
import os
from contextlib import suppress
from pathlib import Path

from netllm_adapt.backbone.cache import backbone_folder, is_cached
from netllm_adapt.files.digests import check_digests, write_digests, written_since

_log = logging.getLogger(__name__)


def check(name: str, *, cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a pulled backbone whose files all have the digests that were kept of them.

    Raises:
        FileNotFoundError: If it was not pulled.
        ValueError: Naming the first file that was damaged or changed.
    """
    folder = backbone_folder(name, cache)
    if not is_cached(name, cache):
        raise FileNotFoundError(
            f"Backbone {name!r} must be pulled before it is checked; nothing whole lies in "
            f"{folder}. Run: netllm backbone pull {name}"
        )
    if not check_digests(folder, again=_again(name)):
        _keep(folder)
    return folder


def verify(folder: Path, name: str) -> None:
    """Compare a pulled folder with its digests: quickly, unless a file was written since.

    A folder of an earlier version has none; they are kept from its first use on.

    Raises:
        ValueError: Naming the first file that was damaged or changed.
    """
    if not check_digests(folder, again=_again(name), quick=True) or written_since(folder):
        _keep(folder)


def is_sound(folder: Path) -> bool:
    """Whether no file of a pulled folder differs from its digest."""
    try:
        verify(folder, folder.name)
    except ValueError as error:
        _log.warning("%s", error)
        return False
    return True


def _keep(folder: Path) -> None:
    with suppress(OSError):  # a cache that only others may write is used as it is
        write_digests(folder, stamped=True)


def _again(name: str) -> str:
    return f"Run: netllm backbone pull {name}"
