"""Programs of this machine: where they are, and running one to its end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

_OF_ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where `ip`, `tc` and `sshd` often are, though a user's PATH may lack it."""


def found(name: str) -> str | None:
    """Where a program is; None if it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_OF_ADMINISTRATORS}")


def path_of(name: str) -> str:
    """Where an installed program is."""
    path = found(name)
    assert path is not None
    return path


def run(command: Sequence[str], *, given: str = "") -> None:
    """Run a program to its end.

    Raises:
        RuntimeError: It fails, with what it said.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)[:200]}: must end well, got exit code {done.returncode}: "
            f"{done.stderr.strip()[-500:]}"
        )
