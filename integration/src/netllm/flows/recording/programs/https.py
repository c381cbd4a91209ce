"""HTTPS as web, video and bulk transfer have it: a server of objects, and two clients."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

from netllm.flows.recording.hosts import Host, servers
from netllm.flows.recording.machine import path_of, run

_PORT = 443
_PIECE = bytes(1 << 16)
_CERTIFICATE, _KEY = "certificate.pem", "key.pem"


class _Objects(BaseHTTPRequestHandler):
    """Answers the path `/1234` with so many bytes, and takes whatever is put."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send so many bytes."""
        left = int(self.path.rsplit("/", 1)[-1])
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(left))
        self.end_headers()
        while left:
            left -= self.wfile.write(_PIECE[:left])

    def do_PUT(self) -> None:
        """Take so many bytes."""
        left = int(self.headers["Content-Length"])
        while left and (piece := self.rfile.read(min(left, len(_PIECE)))):
            left -= len(piece)
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    """A server whose threads shake hands for themselves."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__((address, _PORT), _Objects)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / _CERTIFICATE, folder / _KEY)

    def get_request(self) -> tuple[socket, Any]:
        """The next connection."""
        connection, client = super().get_request()
        wrapped = self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        return wrapped, client

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: what goes wrong is noticed by the client, who tells."""


class HTTPS:
    """Servers of objects with a certificate of their own, and clients who trust it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / _CERTIFICATE).exists():
            _make_certificate(folder)
        self._trusting = ssl.create_default_context(cafile=folder / _CERTIFICATE)

    def listen(self, address: str) -> Callable[[], None]:
        """Listen at an address; what is returned answers for ever."""
        return _Server(address, self.folder).serve_forever

    def connection(self, host: Host, server: str) -> HTTPSConnection:
        """A connection of our own client, which opens with its first request."""
        source = (host.address, 0)
        return HTTPSConnection(server, _PORT, source_address=source, context=self._trusting)

    def curl(self, host: Host, urls: Sequence[str], *options: str) -> None:
        """Get objects by curl, over connections that it keeps."""
        command = [path_of("curl"), "-q", "--silent", "--show-error", "--fail", "--noproxy", "*"]
        command += ["--cacert", str(self.folder / _CERTIFICATE), "--interface", host.address]
        run(
            [*command, *options, *(word for url in urls for word in ("--output", "/dev/null", url))]
        )


def get(connection: HTTPSConnection, size_bytes: int) -> None:
    """Get an object of so many bytes."""
    connection.request("GET", f"/{size_bytes}")
    answer = connection.getresponse()
    if answer.status != 200 or len(answer.read()) != size_bytes:
        raise RuntimeError(f"The server must send {size_bytes} bytes, got status {answer.status}.")


def _make_certificate(folder: Path) -> None:
    names = [f"IP:{one}" for name in ("web", "video", "bulk") for one in servers(name)]
    command = "req -x509 -nodes -days 2 -subj /CN=loopback -newkey ec -pkeyopt"
    words = [path_of("openssl"), *command.split(), "ec_paramgen_curve:prime256v1"]
    words += ["-addext", f"subjectAltName={','.join(names)}"]
    run([*words, "-keyout", str(folder / _KEY), "-out", str(folder / _CERTIFICATE)])
