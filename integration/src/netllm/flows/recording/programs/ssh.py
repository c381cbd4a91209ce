"""SSH: keys pressed one by one, and files copied through it."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from numpy.random import Generator

from netllm.flows.recording.hosts import Host
from netllm.flows.recording.machine import path_of, run

_PORT = 22
_CONFIG = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding no
LogLevel QUIET
SetEnv HOME={folder}
"""
"""Of the server. A home without files that change what shells do."""
_CLIENT = """-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
-o IdentitiesOnly=yes -o IdentityAgent=none -o LogLevel=ERROR"""


class SSH:
    """The machine's own `sshd`, one for each connection, and `ssh`, both with new keys."""

    pause_s = 5.0

    def __init__(self, folder: Path) -> None:
        self._user = pwd.getpwuid(user := outer_user())
        self._sshd = [path_of("sshd"), "-i", "-f", str(folder / "sshd_config")]
        if user:  # only its own user can log in at a server that is not root
            ids = [f"--map-user={user}", f"--map-group={self._user.pw_gid}"]
            self._sshd = [path_of("unshare"), "--user", *ids, *self._sshd]
        else:  # a folder that it demands; nobody else sees this `/run`
            run([path_of("mount"), "-t", "tmpfs", "tmpfs", "/run"])
            Path("/run/sshd").mkdir(mode=0o755)
        for name in ("host_key", "user_key"):
            key = ["-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            run([path_of("ssh-keygen"), *key])
        (folder / "sshd_config").write_text(_CONFIG.format(folder=folder))
        self._ssh = [path_of("ssh"), *_CLIENT.split(), "-i", str(folder / "user_key")]

    def listen(self, address: str) -> Callable[[], None]:
        """Listen at an address; what is returned answers for ever."""
        listener = socket.create_server((address, _PORT), backlog=128)

        def serve() -> None:
            running: list[subprocess.Popen[bytes]] = []
            while True:
                connection, _ = listener.accept()
                running = [one for one in running if one.poll() is None]
                with connection:
                    end, nowhere = connection.fileno(), subprocess.DEVNULL
                    running.append(
                        subprocess.Popen(self._sshd, stdin=end, stdout=end, stderr=nowhere)
                    )

        return serve

    def use(self, host: Host, server: str, rng: Generator) -> None:
        """Type for a while, or copy a file in either direction."""
        typing = host.habits("typing").uniform(0.4, 0.8)
        what = rng.random()
        size = int(10 ** rng.uniform(4.5, 6.5))
        if what < typing:
            self._type(host, server, rng)
        elif what < (1 + typing) / 2:
            self._end(self._started(host, server, f"head -c {size} /dev/zero"))
        else:
            self._end(self._started(host, server, "cat >/dev/null"), bytes(size))

    def _type(self, host: Host, server: str, rng: Generator) -> None:
        """Press keys, each of which comes back as an echo."""
        pace_s = host.habits("pace").uniform(0.08, 0.3)
        far = self._started(host, server, "cat")
        assert far.stdin is not None
        assert far.stdout is not None
        for wait_s in rng.exponential(pace_s, 5 + rng.geometric(0.05)).clip(0.02, 2).tolist():
            time.sleep(wait_s)
            far.stdin.write(b"x")
            far.stdin.flush()
            if not far.stdout.read(1):
                break
        self._end(far)

    def _started(self, host: Host, server: str, command: str) -> subprocess.Popen[bytes]:
        words = ["-b", host.address, "-l", self._user.pw_name, server, command]
        pipe = subprocess.PIPE
        return subprocess.Popen([*self._ssh, *words], stdin=pipe, stdout=pipe, stderr=pipe)

    def _end(self, far: subprocess.Popen[bytes], given: bytes = b"") -> None:
        _, said = far.communicate(given)
        if far.returncode:
            raise RuntimeError(
                f"ssh must end well, got exit code {far.returncode}: {said.decode()[-500:]}"
            )


def outer_user() -> int:
    """Number of the user, outside of the namespace, who records."""
    first = Path("/proc/self/uid_map").read_text().split()
    inner, outer = int(first[0]), int(first[1])
    return outer + os.getuid() - inner
