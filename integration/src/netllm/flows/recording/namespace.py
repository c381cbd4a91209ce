"""A network namespace in which there is only loopback, and whose processes all end with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from netllm.flows.recording.machine import found, path_of

NEEDED = ("unshare", "ip")
_KEPT = ("HOME", "LANG", "NETLLM_TRACEBACK", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
"""Variables of the environment that are known within: none that names a proxy or an agent."""
_PATIENCE_S = 20.0


def check() -> None:
    """Raise unless namespaces may be made here.

    Raises:
        FileNotFoundError: This is not Linux, or a program is missing.
        PermissionError: The system forbids it.
    """
    missing = [name for name in NEEDED if found(name) is None]
    if sys.platform != "linux" or missing:
        raise FileNotFoundError(
            f"Recording needs Linux and its programs {' and '.join(NEEDED)}, got {sys.platform} "
            f"without {' and '.join(missing) or 'namespaces'}: apt-get install iproute2 util-linux "
            "(or your system's way)."
        )
    done = subprocess.run([*_entered(), "true"], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(
            "Recording makes a network namespace, so that nothing leaves this machine, but that is "
            f"not allowed here ({done.stderr.strip()[:200]}). Run it as root, in a container with "
            "CAP_SYS_ADMIN, or allow users to make namespaces: sysctl "
            "kernel.unprivileged_userns_clone=1, on Ubuntu "
            "kernel.apparmor_restrict_unprivileged_userns=0."
        )


@contextmanager
def within(command: Sequence[str], errors: Path) -> Iterator[IO[bytes]]:
    """What a command writes to its output, which runs in a namespace until it ends, or this does.

    Its input ends when this process does, in whatever way: it must then end itself. The kernel
    ends its children with it.

    Args:
        command: The command.
        errors: File of what it says.
    """
    pipe = subprocess.PIPE
    known = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with (
        errors.open("wb") as said,
        subprocess.Popen(
            [*_entered(), *command],
            stdin=pipe,
            stdout=pipe,
            stderr=said,
            env=known,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends it
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _entered() -> list[str]:
    """The words before a command that let it run in namespaces of its own.

    Of processes too: with the first of them the kernel ends all; and of mounts, since `sshd` of
    root demands a folder.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [path_of("unshare"), *user, "--net", "--mount", "--pid", "--fork", "--kill-child"]
