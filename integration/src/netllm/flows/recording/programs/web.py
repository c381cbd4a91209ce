"""Web pages: many small objects over a few connections."""

from __future__ import annotations

from numpy.random import Generator

from netllm.flows.recording.hosts import Host
from netllm.flows.recording.programs.https import HTTPS, get


class Web(HTTPS):
    """Pages from an HTTPS server, by curl on every other host, and by Python's client."""

    pause_s = 4.0

    def use(self, host: Host, server: str, rng: Generator) -> None:
        """Load a page and what belongs to it."""
        objects = 1 + rng.geometric(1 / host.habits("objects").uniform(3, 12))
        sizes = rng.lognormal(9, 1.2, objects).clip(200, 500_000).astype(int).tolist()
        if host.number % 2:
            most = str(host.habits("connections").integers(2, 7))
            urls = [f"https://{server}/{size}" for size in sizes]
            self.curl(host, urls, "--parallel", "--parallel-immediate", "--parallel-max", most)
            return
        connection = self.connection(host, server)
        for size in sizes:
            get(connection, size)
        connection.close()
