"""The programs that make traffic, by the class of their flows.

Each is a class, made within the namespace with the folder of its files. A server of it listens at
an address; a host uses it, again and again.
"""

from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from numpy.random import Generator

    from netllm.flows.recording.hosts import Host


class Program(Protocol):
    """A program: its servers and its use."""

    pause_s: float
    """Mean pause of a host between two uses, in s."""

    def __init__(self, folder: Path) -> None: ...

    def listen(self, address: str) -> Callable[[], None]:
        """Listen at an address; what is returned answers for ever."""

    def use(self, host: "Host", server: str, rng: "Generator") -> None:
        """Let a host use a server once."""


class Known(NamedTuple):
    """What is known of a program before it is made."""

    where: str
    """Module in `programs` and class."""
    needs: tuple[str, ...] = ()
    """Programs of the machine that it runs."""
    attack: bool = False
    """Whether it is one."""

    def make(self, folder: Path) -> Program:
        """The program itself."""
        program: Program = resolve_name(f"netllm.flows.recording.programs.{self.where}")(folder)
        return program


PROGRAMS = {
    "web": Known("web:Web", ("openssl", "curl")),
    "video": Known("video:Video", ("openssl",)),
    "bulk": Known("bulk:Bulk", ("openssl", "curl")),
    "ssh": Known("ssh:SSH", ("sshd", "ssh", "ssh-keygen")),
    "dns": Known("dns:DNS"),
    "scan": Known("scan:Scan", attack=True),
}
"""Programs by the class of their flows; the order gives each its network, see `hosts.servers`."""
