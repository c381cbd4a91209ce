"""A virtual cable into a network namespace, with the kernel's token bucket at its far end."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import secrets
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

from netllm.serve.run import listening

_PROGRAMS = ("ip", "tc", "unshare")
_CLONE_NEWNET = 0x40000000
"""Of Linux's `sched.h`: a namespace of the network."""
_FIRST, _NETWORKS = (198 << 24) + (18 << 16), 1 << 15
"""198.18.0.0/15 is for tests of network devices (RFC 2544); networks of 4 addresses in it."""
_QUEUE_BYTES = 1 << 20
"""What waits for the bucket at most: more than a connection hands to the kernel."""
_SENT_BYTES = 1 << 17
"""What a connection of the far end hands to the kernel at most before it has passed."""
_CONGESTION = b"cubic"
"""How TCP finds its speed: the way of most machines, whatever this one's is."""
_ANY_RATE = "rate 1gbit burst 1000000"
_DISCARD = 9
"""A port on which nobody listens."""
_HOLD = """
echo && read go && ip address add {far}/30 dev {name} &&
ip link set {name} up gso_max_segs 1 && tc -s -j -batch -
ip link delete {name}
"""
"""What runs in the namespace until its input ends: whoever made it may end in whatever way. A
bucket cannot divide packets, so the kernel is to join none."""


def check_programs() -> None:
    """Raise unless there are the programs that make cables.

    Raises:
        FileNotFoundError: with what installs them.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise FileNotFoundError(
            f"--link tc needs Linux and {', '.join(missing)}: apt-get install iproute2 util-linux "
            "(or your system's way). --link user-space needs nothing."
        )


class Cable:
    """A pair of virtual Ethernet devices: one end is here, the other in a namespace of its own.

    What the far end sends waits for the kernel's token bucket (`tc … tbf`).

    Args:
        name: of the devices.
        near: address of the end that is here.
        far: address of the other.
        held: the process that holds the namespace, and takes commands for `tc`.
    """

    def __init__(self, name: str, near: str, far: str, held: Process) -> None:
        self.name, self._near, self._far, self._held = name, near, far, held
        self._show = f"qdisc show dev {name}"
        self._turn = asyncio.Lock()
        self._sockets: list[socket.socket] = []

    async def open(self) -> None:
        """Let all pass, and listen.

        Raises:
            RuntimeError: if the kernel has no token bucket.
        """
        add = f"qdisc add dev {self.name} root tbf {_ANY_RATE} limit {_QUEUE_BYTES}"
        await self._asked(add, self._show)
        self._kick = self._within(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._kick.setblocking(False)
        self.listener = self._within(lambda: listening(self._far, 0))
        """Takes what comes through the cable; what is answered waits for the bucket."""
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BYTES)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION)

    def close(self) -> None:
        """Listen no more."""
        for made in self._sockets:
            made.close()

    async def set_rate(self, rate_bytes_s: float, bucket_bytes: int) -> int:
        """Let so much pass from now on, the bucket being full at first; how much passed before.

        Bytes count with all headers.

        Raises:
            RuntimeError: if `tc` refuses it.
        """
        rate = f"rate {round(rate_bytes_s * 8)}bit burst {bucket_bytes}"
        change = f"qdisc change dev {self.name} root tbf {rate} limit {_QUEUE_BYTES}"
        before, _ = await self._asked(self._show, change, self._show)
        # The kernel looks again when the old rate would have filled the bucket, or a packet comes.
        with suppress(BlockingIOError):  # then there are packets enough
            self._kick.sendto(b"\0", (self._near, _DISCARD))
        return before

    async def passed_bytes(self) -> int:
        """How much has passed, by the kernel's own count.

        Raises:
            RuntimeError: if `tc` refuses to tell.
        """
        (passed,) = await self._asked(self._show)
        return passed

    async def _asked(self, *commands: str) -> list[int]:
        """How much has passed, as `tc` tells it for every `_show` of some commands.

        Raises:
            RuntimeError: if it refuses one.
        """
        # Who waits may be cancelled; the answers must be read all the same.
        return await asyncio.shield(self._told(*commands))

    async def _told(self, *commands: str) -> list[int]:
        assert self._held.stdin is not None
        assert self._held.stdout is not None
        async with self._turn:
            self._held.stdin.write("".join(f"{line}\n" for line in commands).encode())
            answers = [
                await self._held.stdout.readline() for _ in range(commands.count(self._show))
            ]
        if not all(answers):
            raise RuntimeError(
                f"`tc` must take {commands!r}, but it said: {await _said(self._held)}. Has the "
                "kernel its token bucket, the module sch_tbf?"
            )
        return [int(json.loads(answer)[0]["bytes"]) for answer in answers]

    def _within(self, make: Callable[[], socket.socket]) -> socket.socket:
        """A socket of the far end: it stays in the namespace where it was made."""

        def entered() -> socket.socket:
            with open(f"/proc/{self._held.pid}/ns/net", "rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                    raise _forbidden(f"setns: {os.strerror(ctypes.get_errno())}")
            return make()

        with ThreadPoolExecutor(1) as thread:  # which enters the namespace for itself alone
            made = thread.submit(entered).result()
        self._sockets.append(made)
        return made


@asynccontextmanager
async def cable() -> AsyncIterator[Cable]:
    """A cable; nothing is left of it afterwards, nor if this process is killed.

    Raises:
        FileNotFoundError: if a program is missing.
        PermissionError: if this process may not make namespaces and devices.
        RuntimeError: if the kernel has no token bucket.
    """
    check_programs()
    number = secrets.randbelow(_NETWORKS)
    name, first = f"netllm{number:x}", _FIRST + 4 * number
    near, far = (socket.inet_ntoa((first + end).to_bytes(4, "big")) for end in (1, 2))
    hold = ("unshare", "--net", "sh", "-c", _HOLD.format(name=name, far=far))
    pipes: Any = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
    # In a session of its own, so that Ctrl-C reaches this process alone, which then ends it.
    held = await asyncio.create_subprocess_exec(*hold, **pipes, start_new_session=True)
    assert held.stdin is not None
    assert held.stdout is not None
    made = Cable(name, near, far, held)
    try:
        if not await held.stdout.readline():
            raise _forbidden(await _said(held))
        ends = f"link add {name} type veth peer name {name} netns {held.pid}"
        for command in (
            "link set lo up",  # it is not in a namespace that is new, such as that of `unshare`
            ends,
            f"address add {near}/30 dev {name}",
            f"link set {name} up",
        ):
            await _ip(command)
        held.stdin.write(b"\n")
        await made.open()
        yield made
    finally:
        made.close()
        held.stdin.close()
        with suppress(ProcessLookupError):
            await held.wait()


async def _ip(command: str) -> None:
    """Run a command of `ip`."""
    done = await asyncio.create_subprocess_exec("ip", *command.split(), stdout=DEVNULL, stderr=PIPE)
    _, said = await done.communicate()
    if done.returncode:
        raise _forbidden(f"ip {command}: {said.decode().strip()}")


async def _said(held: Process) -> str:
    """What a process said before it ended."""
    assert held.stderr is not None
    return (await held.stderr.read()).decode().strip()[:300]


def _forbidden(said: str) -> PermissionError:
    return PermissionError(
        f"--link tc makes a network namespace and devices, which is not allowed here ({said}). Run "
        "it as root, or within `unshare --user --map-root-user --net`; --link user-space needs no "
        "rights."
    )
