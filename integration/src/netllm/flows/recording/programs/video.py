"""Video: chunks of a ladder, as many as a player's buffer asks for."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.random import Generator

from netllm.flows.recording.hosts import Host
from netllm.flows.recording.programs.https import HTTPS, get

_MANIFEST_BYTES, _INIT_BYTES = 1_600, 900
"""About what the manifest and the initial segment have that `netllm real` shows to players."""


class Video(HTTPS):
    """A player of our own: chunks of our ladder over HTTPS in real time, levels chosen by `bba`."""

    pause_s = 5.0

    def __init__(self, folder: Path) -> None:
        from netllm_baselines.abr import BBA
        from netllm_sims.abr import setting

        super().__init__(folder)
        self._video = (place := setting("synthetic")).video
        self._policy = BBA(place)

    def use(self, host: Host, server: str, rng: Generator) -> None:
        """Watch a video from its beginning, until the viewer has seen enough."""
        watched_s = rng.exponential(12)
        full_s = host.habits("buffer").uniform(8, 20)
        connection = self.connection(host, server)
        for size in (_MANIFEST_BYTES, _INIT_BYTES):
            get(connection, size)
        began_s, loaded_s = time.monotonic(), 0.0
        for chunk in range(self._video.chunks):
            left_s = began_s + watched_s - time.monotonic()
            buffer_s = max(0.0, loaded_s - (time.monotonic() - began_s))
            if left_s <= 0:
                break
            if buffer_s > full_s:
                time.sleep(min(left_s, buffer_s - full_s))
            (level,) = self._policy.act({"buffer_s": np.array([buffer_s])}).tolist()
            get(connection, round(self._video.sizes_bytes[chunk, level]))
            loaded_s += self._video.chunk_s
        connection.close()
