import os
import sys
from pathlib import Path


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder of everything that netllm downloads; it need not exist yet.

    The first of: ``cache``; the environment variable ``NETLLM_CACHE``; the platform's convention
    (``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows, ``$XDG_CACHE_HOME`` or
    ``~/.cache`` elsewhere) followed by ``netllm``.
    """
    chosen = cache or os.environ.get("NETLLM_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "netllm"


def backbone_folder(name: str, cache: str | os.PathLike[str] | None = None) -> Path:
    """Where the converted weights of the backbone ``name`` lie once pulled."""
    return cache_folder(cache) / "backbones" / name


def is_cached(name: str, cache: str | os.PathLike[str] | None = None) -> bool:
    """Whether ``name`` was pulled completely: the folder appears only when it is whole."""
    return (backbone_folder(name, cache) / "config.json").is_file()
