"""`netllm.serve.run.serve`: the server itself, from its arguments to its last answer."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.serve.build_seats import seats_of
from netllm.serve.client import TOKEN
from netllm.serve.limits import Limits
from netllm.verbs.check_arguments import names

if TYPE_CHECKING:
    import uvicorn
    from starlette.routing import BaseRoute

    from netllm.serve.service import Service

logger = logging.getLogger(__name__)

_WAITING = 2_048
"""Connections that wait to be accepted."""
LAST_ANSWERS_S = 10
"""How long requests that are being answered may take once the server is to end."""


def serve(
    *,
    checkpoint: str | Sequence[str],
    host: str = "127.0.0.1",
    port: int = 8035,
    token: str | None = None,
    allow_origin: str | Sequence[str] = (),
    setting: str | Sequence[str] = (),
    fallback: str | Sequence[str] = (),
    student: str | Sequence[str] = (),
    when_unsure: str | Sequence[str] = (),
    sessions: int = Limits.sessions,
    queue: int = Limits.queue,
    idle_s: float = Limits.idle_s,
    deadline_s: float = Limits.deadline_s,
    body_mb: float = Limits.body_bytes / (1 << 20),
    puffer_socket: str | Path | None = None,
    data: str | Path | None = None,
    device: str = "cpu",
    trust_backbone: bool = False,
    started: Callable[[str], None] = logger.info,
) -> None:
    """Answer requests with adapted models, until the process is told to end.

    Args:
        checkpoint: TASK=RUN for every task: a run's folder, a checkpoint's, `owner/name` on the
            hub, or `pretrained`.
        host: Address to listen on; this machine's own unless told otherwise.
        port: Port to listen on; 0 takes a free one.
        token: What requests must carry as `Authorization: Bearer TOKEN`; NETLLM_TOKEN if not given.
        allow_origin: Web pages of these origins may ask, such as https://player.example.
        setting: TASK=NAME: the setting of a task; the one its checkpoint was adapted in if not
            given.
        fallback: TASK=POLICY: who answers where the model is late, a rule that needs no time; the
            task's own unless told otherwise, such as bba for abr.
        student: TASK=FILE: a student, made by `netllm distil`, that answers in the model's place
            and asks it when unsure.
        when_unsure: TASK=X: a student asks where its highest probability is below X; what its file
            says if not given.
        sessions: Sessions open at once; more are refused with 503.
        queue: Decisions that wait at once; more are refused with 503.
        idle_s: A session that is not asked about for so long is closed.
        deadline_s: After so long the fallback answers.
        body_mb: Largest body of a request, in MiB.
        puffer_socket: Path of a UNIX socket on which Puffer's protocol is answered too, for abr.
        data: Folder of real data; NETLLM_DATA if not given.
        device: Where models decide: auto, cpu, cuda or mps.
        trust_backbone: Use backbones that lie in folders or on the hub, which are fetched.
        started: Called with a line about what is served where, before the first request.

    Raises:
        ValueError: for a wrong argument or checkpoint.
        OSError: if the address cannot be listened on.
        ModuleNotFoundError: if the extra `netllm[serve]` is missing.
    """
    check_installed()
    from netllm.serve import puffer
    from netllm.serve.service import Service

    times: Any = {"idle_s": idle_s, "deadline_s": deadline_s}
    limits = Limits(sessions=sessions, queue=queue, body_bytes=int(body_mb * (1 << 20)), **times)
    with ExitStack() as ends:
        listener = ends.enter_context(listening(host, port))
        viewers = ends.enter_context(puffer.listening(puffer_socket)) if puffer_socket else None
        words = map(names, (checkpoint, setting, fallback, student, when_unsure))
        seats = seats_of(*words, data=data, device=device, trust_backbone=trust_backbone)
        if viewers:
            puffer.check(seats)
        where, token = address(listener), token or os.environ.get(TOKEN) or None
        _warn_of_strangers(host, where, token)
        on = f"{where}, and on {puffer_socket}" if viewers else where
        started(f"Serving {', '.join(seats)} on {on}; {where}/docs describes it.")
        _run(Service(seats, limits), listener, viewers, token, names(allow_origin))


def _warn_of_strangers(host: str, where: str, token: str | None) -> None:
    if token is None and not _is_loopback(host):
        logger.warning("Anybody who reaches %s may ask: no token is required.", where)


def _run(
    service: Service,
    listener: socket.socket,
    viewers: socket.socket | None,
    token: str | None,
    allow_origins: Sequence[str],
) -> None:
    """Serve until a signal tells the process to end."""
    run_server(
        server_of(service, token=token, allow_origins=allow_origins, puffer=viewers), listener
    )


def run_server(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal tells the process to end, or `server.should_exit` is set."""
    with _ended_by_signals():
        server.run(sockets=[listener])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A block in which a signal to end ends the server, which raises it again, and no more."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda number, frame: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_installed(command: str = "serve", *more: str) -> None:
    """Raise unless the libraries of the extra of a command are here: those of the server, and more.

    Raises:
        ModuleNotFoundError: with what installs them.
    """
    for name in ("fastapi", "prometheus_client", "uvicorn", *more):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"netllm {command} needs {error.name}: pip install 'netllm[{command}]'.",
                name=error.name,
            ) from error


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; the port of 0 is a free one.

    Raises:
        OSError: if the address is taken or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows connections whose answers must not wait to fill a packet.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_WAITING)
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"Cannot listen on {host}, port {port}: {error}.") from error
    return listener


def address(listener: socket.socket) -> str:
    """Where requests go."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(
    service: Service,
    *,
    token: str | None = None,
    allow_origins: Sequence[str] = (),
    puffer: socket.socket | None = None,
    routes: Sequence[BaseRoute] = (),
) -> uvicorn.Server:
    """The server of a service, to be run on sockets that listen; arguments as of `application`."""
    import uvicorn

    from netllm.serve.app import application

    config = uvicorn.Config(
        application(
            service, token=token, allow_origins=allow_origins, puffer=puffer, routes=routes
        ),
        access_log=False,
        log_config=None,
        lifespan="on",
        ws="none",
        limit_concurrency=2 * (service.limits.sessions + service.limits.queue),
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )
    return uvicorn.Server(config)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
