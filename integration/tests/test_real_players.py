"""Real players in a headless Chromium, behind the server, over a shaped connection."""

import asyncio
import shutil

import numpy as np
import pytest
from netllm import registry
from netllm.real.play_log import figures
from netllm.real.play_sessions import play_sessions
from netllm.real.player_library import LIBRARIES
from netllm.serve.limits import Limits
from netllm.serve.one_each import OneEach
from netllm.serve.seat import Seat
from netllm_sims import abr

MISSING = [name for name in ("chromium", "ffmpeg", "npm") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
CHUNKS = 5


class Cycle:
    """Levels one after the other, so that every answer shows in what is loaded next."""

    def __init__(self, setting):
        self.top = setting.video.levels - 1

    def reset(self, seed):
        self.asked = 0

    def act(self, observation):
        self.asked += 1
        return np.array([(2 * self.asked) % (self.top + 1)])


@pytest.fixture(scope="module")
def setting():
    return registry.task("abr").setting("synthetic", chunks=CHUNKS)


def seat(setting, build):
    task = registry.task("abr")
    fallback = registry.policy("abr", "bba", setting)
    return Seat(task, setting, OneEach(build), fallback, "bba")


def session(name, mbps):
    trace = abr.Trace(name, np.array([0.0, 1, 2]), np.array([mbps, mbps, mbps]))
    return abr.Session(name, trace)


def play(own, sessions, player, **limits):
    logs = {}
    asyncio.run(
        play_sessions(
            own,
            sessions,
            player=player,
            players=2,
            limits=Limits(**limits),
            played=lambda session, log: logs.__setitem__(session.id, log),
        )
    )
    return logs


@pytest.mark.parametrize("player", LIBRARIES)
def test_a_player_loads_what_was_decided_and_tells_what_it_saw(setting, player):
    own = seat(setting, lambda: Cycle(setting))
    logs = play(own, [session("a", 8.0), session("b", 12.0)], player, deadline_s=20.0)
    assert sorted(logs) == ["a", "b"]
    for log in logs.values():
        assert [chunk.level for chunk in log.chunks] == [0, 2, 4, 0, 2]
        assert [chunk.by for chunk in log.chunks] == ["model"] * (CHUNKS - 1) + [""]
    for name, mbps in (("a", 8.0), ("b", 12.0)):
        chunk = logs[name].chunks[2]
        least_s = chunk.size_bytes * 8e-6 / (0.95 * mbps)
        assert chunk.took_s >= least_s
    found = figures(logs["a"], setting)
    rates = np.array(setting.video.rates_kbps)[[2, 4, 0, 2]] * 1e-3
    assert found["bitrate_mbps"] == pytest.approx(rates.mean())
    assert found["qoe"] <= found["bitrate_mbps"] - found["smoothness_mbps"] + 1e-9


def test_a_model_that_is_late_is_replaced_by_the_fallback_and_the_player_goes_on(setting):
    class Slow(Cycle):
        def act(self, observation):
            import time

            time.sleep(1.5)
            return super().act(observation)

    own = seat(setting, lambda: Slow(setting))
    (log,) = play(own, [session("a", 8.0)], "dashjs", deadline_s=0.3).values()
    assert {chunk.by for chunk in log.chunks[:-1]} <= {"bba", "page"}
    assert len(log.chunks) == CHUNKS
