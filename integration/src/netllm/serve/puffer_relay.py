"""What Puffer starts for each viewer: it joins Puffer's socket to that of a server.

Puffer listens itself, and runs its algorithm as `test_path NAME model_path SOCKET`. So `test_path`
is a script that runs `python -m netllm.serve.puffer_relay "$@"`, and `model_path` the server's
socket.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress


def relay(server: str, player: str) -> None:
    """Hand what comes on either socket to the other, until one ends.

    Args:
        server: path of the server's socket.
        player: path of Puffer's.
    """
    with socket.socket(socket.AF_UNIX) as ours, socket.socket(socket.AF_UNIX) as theirs:
        theirs.connect(player)
        ours.connect(server)
        back = threading.Thread(target=_copy, args=(ours, theirs))
        back.start()
        _copy(theirs, ours)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    relay(*sys.argv[2:4])
