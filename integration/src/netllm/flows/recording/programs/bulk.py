"""Bulk transfer: one large file, down or up."""

from __future__ import annotations

from numpy.random import Generator

from netllm.flows.recording.hosts import Host
from netllm.flows.recording.programs.https import HTTPS


class Bulk(HTTPS):
    """Files of 0.2 to 3 MB over HTTPS: curl gets them, Python's client puts them."""

    pause_s = 8.0

    def use(self, host: Host, server: str, rng: Generator) -> None:
        """Get a file or put one, each host with a leaning of its own."""
        size = int(10 ** rng.uniform(5.3, 6.5))
        if rng.random() < host.habits("downloads").uniform(0.4, 0.9):
            self.curl(host, [f"https://{server}/{size}"])
            return
        connection = self.connection(host, server)
        connection.request("PUT", "/file", body=bytes(size))
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 201:
            raise RuntimeError(f"The server must take {size} bytes, got status {answer.status}.")
