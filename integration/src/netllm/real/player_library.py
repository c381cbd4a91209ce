"""The library of the player, fetched once from npm and kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "5.2.1"
DIGEST = "d4ee2d6fd00a3944f448964787d4603ca1e4ae5ce2956d0a755b78e0d3566b57"
_FILE = "dash.mediaplayer.min.js"


def dashjs() -> Path:
    """The file of dash.js; fetched with npm at the first call.

    Raises:
        FileNotFoundError: if it is to be fetched and npm is not installed.
        RuntimeError: if npm cannot fetch it, or what came is something else.
    """
    from netllm_adapt.backbone import cache_folder

    file = cache_folder() / "real" / f"dashjs-{VERSION}" / _FILE
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            fetched = Path(scratch) / _FILE
            fetched.write_bytes(_fetched(Path(scratch)))
            fetched.replace(file)
    if (got := hashlib.sha256(file.read_bytes()).hexdigest()) != DIGEST:
        raise RuntimeError(
            f"{file} must be dash.js {VERSION} (sha256 {DIGEST[:8]}…), got {got[:8]}…. Delete it, "
            "and it is fetched again."
        )
    return file


def _fetched(folder: Path) -> bytes:
    """The library, out of npm's package."""
    program = shutil.which("npm")
    if program is None:
        raise FileNotFoundError(
            "dash.js is fetched with npm, which is not installed: apt-get install npm (or your "
            "system's way)."
        )
    command = [program, "pack", "--silent", f"dashjs@{VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"npm could not fetch dash.js {VERSION}: {done.stderr.strip()[-500:]}")
    with tarfile.open(folder / done.stdout.split()[-1]) as package:
        member = package.extractfile(f"package/dist/modern/umd/{_FILE}")
        if member is None:
            raise RuntimeError(f"npm's package dashjs {VERSION} must hold {_FILE}.")
        return member.read()
