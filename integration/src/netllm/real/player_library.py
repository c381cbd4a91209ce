"""The libraries of web players, fetched once from npm and kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
"""Of npm with its registry; times in ms."""


@dataclass(frozen=True)
class Library:
    """A player's library, as a package of npm has it."""

    package: str
    version: str
    file: str
    """Within the package."""
    sha256: str


LIBRARIES: Mapping[str, Library] = {
    "dashjs": Library(
        "dashjs",
        "5.2.1",
        "dist/modern/umd/dash.mediaplayer.min.js",
        "d4ee2d6fd00a3944f448964787d4603ca1e4ae5ce2956d0a755b78e0d3566b57",
    ),
    "shaka": Library(
        "shaka-player",
        "5.2.12",
        "dist/shaka-player.compiled.js",
        "b22dfdba631104c48a654cb623b08b0f79e2d52c83c0e9b4b7cff54730b55894",
    ),
    "hlsjs": Library(
        "hls.js",
        "1.7.4",
        "dist/hls.min.js",
        "cfc70cc9e9fc63d071919e087670abc760c8fd1bc889b88588026e4d22193bbe",
    ),
}
"""By the player's name."""


def library(player: str) -> Path:
    """The file of a player's library; fetched with npm at the first call.

    Raises:
        FileNotFoundError: if it is to be fetched and npm is not installed.
        ConnectionError: if npm cannot fetch it.
        RuntimeError: if what came is something else.
    """
    return library_file(LIBRARIES[player])


def library_file(own: Library) -> Path:
    """The file of any library of npm, as `library` gives a player's."""
    from netllm_adapt.backbone import cache_folder

    file = cache_folder() / "real" / f"{own.package}-{own.version}" / Path(own.file).name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            fetched = Path(scratch) / file.name
            fetched.write_bytes(_fetched(own, Path(scratch)))
            fetched.replace(file)
    if (got := hashlib.sha256(file.read_bytes()).hexdigest()) != own.sha256:
        raise RuntimeError(
            f"{file} must be {own.file} of {own.package} {own.version} (sha256 {own.sha256[:8]}…), "
            f"got {got[:8]}…. Delete it, and it is fetched again."
        )
    return file


def _fetched(own: Library, folder: Path) -> bytes:
    """The library, out of npm's package."""
    program = shutil.which("npm")
    if program is None:
        raise FileNotFoundError(
            f"{own.package} is fetched with npm, which is not installed: apt-get install npm (or "
            "your system's way)."
        )
    what = f"{own.package}@{own.version}"
    command = [program, "pack", "--loglevel=error", *_PATIENCE, what]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        told = (done.stderr or done.stdout).strip()[:300]
        raise ConnectionError(f"npm could not fetch {what}: {told}")
    with tarfile.open(folder / done.stdout.split()[-1]) as package:
        member = package.extractfile(f"package/{own.file}")
        if member is None:
            raise RuntimeError(f"npm's package {what} must hold {own.file}.")
        return member.read()
