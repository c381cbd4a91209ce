"""Where pulled backbones lie, and whether they are still what was pulled."""

import os
import sys
from pathlib import Path

from netllm_adapt.files.digests import FILE, check_digests

_PULL = "Run: netllm backbone pull {}"
_sound: set[tuple[object, ...]] = set()
"""Backbones that this process found to be what was pulled, and when their files were written."""


def cache_folder() -> Path:
    """The folder of everything that netllm downloads; it need not exist yet.

    The environment variable ``NETLLM_CACHE``, else ``netllm`` in the platform's folder of caches:
    ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows, ``$XDG_CACHE_HOME`` or
    ``~/.cache`` elsewhere.
    """
    if chosen := os.environ.get("NETLLM_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "netllm"


def backbone_folder(name: str) -> Path:
    """Where the converted weights of the backbone ``name`` lie once pulled."""
    return cache_folder() / "backbones" / name


def is_cached(name: str) -> bool:
    """Whether ``name`` was pulled, and each of its files is still as long as then."""
    folder = backbone_folder(name)
    try:
        check_digests(folder, again=_PULL.format(name), sizes_alone=True)
    except ValueError:
        return False
    return (folder / FILE).is_file()


def check(name: str) -> Path:
    """The folder of a pulled backbone, whose files all have the digests that were kept of them.

    Raises:
        FileNotFoundError: If it was not pulled completely.
        ValueError: Naming the first file that was damaged or changed.
    """
    folder, pull = backbone_folder(name), _PULL.format(name)
    if not is_cached(name):
        raise FileNotFoundError(
            f"Backbone {name!r} must be pulled before it is used; nothing whole lies in {folder}. "
            f"{pull}"
        )
    known = (folder, *((path, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())))
    if known not in _sound:
        check_digests(folder, again=pull)
        _sound.add(known)
    return folder
