"""Real players in a headless Chromium, behind the server, over a shaped connection."""

import asyncio
import threading
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from netllm import registry
from netllm.real.browser import browser
from netllm.real.play import Play
from netllm.real.play_log import Chunk, Log, figures, pictured
from netllm.real.play_sessions import play_one, play_sessions, serving
from netllm.real.player_library import LIBRARIES
from netllm.real.player_routes import PlayerRoutes
from netllm.real.presentation import Presentation, presentation
from netllm.real.watch import PAGE, Watch
from netllm.serve.limits import Limits
from netllm.serve.one_each import OneEach
from netllm.serve.run import address, listening, server_of
from netllm.serve.seat import Seat
from netllm.serve.service import Service
from netllm_sims import abr

pytestmark = [
    # of playwright's pipes, when its event loop has ended
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
CHUNKS = 5
PATIENCE_S = 60.0


@pytest.fixture(params=LIBRARIES)
def player(request, real_player):
    return real_player(request.param)


@pytest.fixture
def dashjs(real_player):
    return real_player("dashjs")


class Cycle:
    """Levels one after the other, so that every answer shows in what is loaded next."""

    def __init__(self, setting):
        self.top = setting.video.levels - 1

    def reset(self, seed):
        self.asked = 0

    def act(self, observation):
        self.asked += 1
        return np.array([(2 * self.asked) % (self.top + 1)])


class Late(Cycle):
    """The same, later than anybody waits for."""

    def act(self, observation):
        time.sleep(1.5)
        return super().act(observation)


@pytest.fixture(scope="module")
def setting():
    return registry.task("abr").setting("synthetic", chunks=CHUNKS)


def seat(setting, policy=Cycle):
    fallback = registry.policy("abr", "bba", setting)
    return Seat(
        registry.task("abr"),
        setting,
        OneEach(lambda: policy(setting)),
        fallback,
        fallback_name="bba",
    )


def session(name, mbps):
    trace = abr.Trace(name, np.array([0.0, 1, 2]), np.array([mbps, mbps, mbps]))
    return abr.Session(name, trace)


def levels(log):
    return [chunk.level for chunk in log.chunks]


def who(log):
    return [chunk.by for chunk in log.chunks]


class Decides:
    """A server that decides, on a port of its own, until it is stopped; it may start again."""

    def __init__(self, make_seat, deadline_s=PATIENCE_S):
        self._seat, self._deadline_s, self._port = make_seat, deadline_s, 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        service = Service({"abr": self._seat()}, Limits(deadline_s=self._deadline_s))
        self._server = server_of(service, allow_origins=["*"])
        self._listener = listening("127.0.0.1", self._port)
        self.address = address(self._listener)
        self._port = self._listener.getsockname()[1]
        sockets = {"sockets": [self._listener]}
        self._thread = threading.Thread(target=self._server.run, kwargs=sockets)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)

    def stop(self):
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


def played(setting, sessions, player, policy=Cycle, deadline_s=PATIENCE_S, **more):
    """Logs of sessions, two at a time."""
    logs = {}

    def ended(session, log):
        logs[session.id] = log

    options = {"player": player, "players": 2, "deadline_s": deadline_s, "ended": ended}
    options |= more
    with Decides(partial(seat, setting, policy), deadline_s) as decides:
        asyncio.run(play_sessions(setting, sessions, server=decides.address, **options))
    return logs


def played_side_by_side(*plays):
    """Logs of plays, by session."""

    async def run():
        routes = PlayerRoutes()
        every = routes.routes()
        async with serving(Service({}, Limits()), every) as where, browser() as opened:
            logs = await asyncio.gather(*(play_one(play, routes, opened, where) for play in plays))
        return {play.session.id: log for play, log in zip(plays, logs, strict=True)}

    return asyncio.run(run())


def test_a_player_loads_what_was_decided_and_tells_what_it_saw(setting, player):
    logs = played(setting, [session("a", 8.0), session("b", 12.0)], player)
    assert sorted(logs) == ["a", "b"]
    for log in logs.values():
        assert log.over
        assert levels(log) == [0, 2, 4, 0, 2]
        assert who(log) == ["model"] * (CHUNKS - 1) + [""]
    for name, mbps in (("a", 8.0), ("b", 12.0)):
        chunk = logs[name].chunks[2]
        least_s = chunk.size_bytes * 8e-6 / (0.95 * mbps)
        assert chunk.took_s >= least_s
    found = figures(pictured(logs["a"], setting), setting)
    rates = np.array(setting.video.rates_kbps)[[2, 4, 0, 2]] * 1e-3
    assert found["bitrate_mbps"] == pytest.approx(rates.mean())
    assert found["qoe"] <= found["bitrate_mbps"] - found["smoothness_mbps"] + 1e-9


def test_a_model_that_is_late_is_replaced_by_the_fallback_and_the_player_goes_on(setting, dashjs):
    (log,) = played(setting, [session("a", 8.0)], dashjs, Late, deadline_s=0.3).values()
    assert {*who(log)[:-1]} <= {"bba", "page"}
    assert len(log.chunks) == CHUNKS


def test_segments_may_come_through_the_kernel(setting, player, tc_link):
    some = [session("a", 8.0), session("b", 4.0)]
    logs = played(setting, some, player, players=1, link="tc")
    for name, mbps in (("a", 8.0), ("b", 4.0)):
        assert logs[name].error == ""
        assert levels(logs[name]) == [0, 2, 4, 0, 2]
        bucket_s = 0.01 + 1_514 * 8e-6 / mbps
        for chunk in logs[name].chunks:
            assert chunk.took_s >= chunk.size_bytes * 8e-6 / mbps - bucket_s


def test_a_segment_that_is_slow_is_waited_for(setting, real_player):
    # of level 4 it takes longer than there is in the buffer
    (log,) = played(setting, [session("a", 2.0)], real_player("hlsjs")).values()
    assert log.error == ""
    assert levels(log) == [0, 2, 4, 0, 2]
    assert log.chunks[2].stall_s > 0


def test_a_session_may_have_a_video_of_its_own(setting, dashjs):
    video = setting.video
    own = replace(video, sizes_bytes=video.sizes_bytes + 1_000)
    (log,) = played(setting, [replace(session("a", 8.0), video=own)], dashjs).values()
    assert log.error == ""
    sizes = [round(own.sizes_bytes[n, level]) for n, level in enumerate([0, 2, 4, 0, 2])]
    assert [chunk.size_bytes for chunk in log.chunks] == sizes


class Unreadable(Presentation):
    """Its manifests are none."""

    def mpd(self, **base):
        return "<MPD>"

    def m3u8(self, level=None, **base):
        return "none"


def test_a_player_that_fails_ends_at_once_and_others_go_on(setting, player):
    video = setting.video
    good = presentation(video)
    usual = {"setting": setting, "player": player, "deadline_s": PATIENCE_S}
    with Decides(partial(seat, setting)) as decides:
        usual["server"] = decides.address
        bad = Play(session=session("bad", 8.0), shown=Unreadable(video, good.media), **usual)
        fine = Play(session=session("fine", 8.0), shown=good, **usual)
        logs = played_side_by_side(bad, fine)
    assert logs["bad"].error
    assert "times the length" not in logs["bad"].error
    assert not logs["bad"].chunks
    assert levels(logs["fine"]) == [0, 2, 4, 0, 2]
    assert not logs["fine"].error


@dataclass(frozen=True, eq=False)
class Happening(Presentation):
    """Something happens before a segment is given, by its number."""

    events: dict

    def segment(self, level, number):
        self.events.pop(number, lambda: None)()
        return super().segment(level, number)


def test_a_player_goes_on_without_its_server_and_uses_it_again_when_it_is_back(dashjs):
    setting = registry.task("abr").setting("synthetic", chunks=9)
    with Decides(partial(seat, setting)) as decides:
        events = {3: decides.stop, 6: decides.start}
        play = Play(
            session=session("a", 20.0),
            setting=setting,
            shown=Happening(setting.video, presentation(setting.video).media, events),
            player=dashjs,
            deadline_s=PATIENCE_S,
            server=decides.address,
        )
        (log,) = played_side_by_side(play).values()
    assert log.error == ""
    # Of the first two segments the server heard; the one that is back knows no session first.
    assert who(log) == ["model"] * 2 + ["page"] * 4 + ["model"] * 2 + [""]
    assert levels(log)[:3] == [0, 2, 4]
    assert levels(log)[-2:] == [2, 4]
    assert all(chunk.why for chunk in log.chunks if chunk.by == "page")


def test_a_page_shows_the_plays_that_are_under_way(setting, dashjs):
    watch, routes, wrong = Watch(who="us"), PlayerRoutes(), []
    shown = presentation(setting.video)
    play = Play(
        session=session("<a>", 8.0),
        setting=setting,
        shown=shown,
        player=dashjs,
        deadline_s=PATIENCE_S,
        server="",
    )
    play.told(Log([Chunk(0, 0, 2_000, 0.5, 0.5, 4.0, "model"), Chunk(1, 1, 9_000, 0.5, 2.0, 7.5)]))
    routes.add(play)

    async def run():
        every = [*routes.routes(), *watch.routes(routes.plays)]
        async with serving(Service({}, Limits()), every) as where, browser() as opened:
            page = await opened.new_page()
            page.on("pageerror", lambda error: wrong.append(error))
            await page.goto(where + PAGE)
            await page.wait_for_selector("section table", timeout=PATIENCE_S * 1e3)
            lines = await page.locator("section polyline").count()
            return lines, await page.inner_text("body")

    lines, text = asyncio.run(run())
    assert not wrong
    assert lines == 2
    assert f"<a>: dashjs, chunk 2 of {CHUNKS}, decided by nobody any more" in text
    assert "us (here)" in text
    assert "1 under way" in text
