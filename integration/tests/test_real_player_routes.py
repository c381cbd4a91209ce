"""What real players ask the server for, and what it answers where there is no such thing."""

import asyncio
import os
import shutil

import numpy as np
import pytest
from netllm.real.play import Play
from netllm.real.play_log import Chunk, Log
from netllm.real.player_routes import PlayerRoutes
from netllm.real.presentation import Presentation
from netllm.real.watch import Watch
from netllm_sims import abr
from netllm_sims.abr.session_picture import Chunk as PicturedChunk

SIZES = np.array([[2_000, 9_000]] * 3)


@pytest.fixture
def play(tmp_path):
    """A play of a video whose picture is a few bytes."""
    for name in ("init.mp4", "1.m4s", "2.m4s", "3.m4s"):
        (tmp_path / name).write_bytes(name.encode())
    video = abr.Video(name="v", rates_kbps=(300, 1200), sizes_bytes=SIZES, chunks=3)
    trace = abr.Trace("t", np.array([0.0, 1]), np.array([80.0, 80]))
    return Play(
        session=abr.Session("s", trace),
        setting=abr.setting("synthetic", rtt_s=0.0),
        shown=Presentation(video, tmp_path),
        player="dashjs",
        deadline_s=0.25,
        server="http://127.0.0.1:1",
    )


@pytest.fixture
def watch():
    """Who watches `us` beside a rival that had 8 s of stalls at the third chunk."""
    rival = [PicturedChunk(1.2, 3.0, 4.0, stall_s) for stall_s in (0.0, 0.0, 8.0)]
    return Watch({"rival": {"s": rival}, "elsewhere": {"another": rival}}, who="us")


@pytest.fixture
def ask(play, watch):
    """Ask for a path of the play: the response."""
    import httpx
    from starlette.applications import Starlette

    routes = PlayerRoutes()
    routes.add(play)
    every = [*routes.routes(), *watch.routes(routes.plays)]
    transport = httpx.ASGITransport(Starlette(routes=every))

    def run(path, method="GET", **request):
        async def answer():
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **request)

        return asyncio.run(answer())

    return run


def test_a_play_has_a_page_manifests_and_segments_of_the_ladders_sizes(play, ask):
    base = f"/real/{play.id}"
    page = ask(f"{base}/page.html").text
    assert '"deadlineMs":250.0' in page
    assert "/real/library/dashjs.js" in page
    assert ask(f"{base}/manifest.mpd").headers["content-type"] == "application/dash+xml"
    assert ask(f"{base}/master.m3u8").text.startswith("#EXTM3U")
    assert "3.m4s" in ask(f"{base}/1/list.m3u8").text
    assert ask(f"{base}/0/init.mp4").content == b"init.mp4"
    segment = ask(f"{base}/1/3.m4s")
    assert segment.headers["content-length"] == "9000"
    assert len(segment.content) == 9_000
    assert segment.content.startswith(b"3.m4s")


@pytest.mark.parametrize(
    "path",
    [
        "real/{play}x/page.html",
        "real/{play}x/0/1.m4s",
        "real/{play}/2/1.m4s",
        "real/{play}/0/0.m4s",
        "real/{play}/0/4.m4s",
        "real/{play}/2/init.mp4",
        "real/{play}/2/list.m3u8",
        "real/library/vlc.js",
    ],
)
def test_an_unknown_play_player_level_or_segment_is_not_found(play, ask, path):
    answer = ask(path.format(play=play.id))
    assert answer.status_code == 404
    assert "no such play" in answer.text


def test_what_a_player_tells_is_kept_and_may_come_in_any_order(play, ask):
    log = f"/real/{play.id}/log"
    chunks = [{"number": n, "level": 0, "size_bytes": 9, "took_s": 0.1} for n in range(2)]
    chunks = [{**one, "stall_s": 0, "buffer_s": 4} for one in chunks]
    assert ask(log, "POST", json={"chunks": chunks}).status_code == 204
    assert ask(log, "POST", json={"chunks": chunks[:1]}).status_code == 204
    assert [one.number for one in play.log.chunks] == [0, 1]
    assert not play.ended.is_set()
    assert ask(log, "POST", json={"chunks": chunks, "error": "gone"}).status_code == 204
    assert play.ended.is_set()
    assert ask(log, "POST", json={"chunks": chunks, "over": True}).status_code == 204
    assert play.log == Log([Chunk(n, 0, 9, 0.1, 0.0, 4.0) for n in range(2)], error="gone")


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [
        ({"json": {"chunks": [{"number": -1}]}}, 422, "number"),
        ({"json": {"chunks": [], "more": 1}}, 422, "more"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "JSON"),
        ({"content": b"{}"}, 415, "application/json"),
        ({"json": {"error": "x" * (1 << 20)}}, 413, "bytes at most"),
    ],
)
def test_a_malformed_log_is_refused(play, ask, sent, status, told):
    answer = ask(f"/real/{play.id}/log", "POST", **sent)
    assert answer.status_code == status
    assert told in answer.text
    assert play.log == Log()


def test_plays_under_way_are_watched_beside_what_others_did_after_as_many_chunks(play, ask, watch):
    assert "/real/plays.json" in ask("/real/watch").text
    (told,) = ask("/real/plays.json").json()
    assert told["qoe"] == {"us (here)": None, "rival": None}
    chunks = [Chunk(0, 0, 2_000, 0.5, 0.5, 4.0, "model"), Chunk(1, 1, 9_000, 0.5, 0.0, 7.5)]
    play.told(Log(chunks))
    (told,) = ask("/real/plays.json").json()
    assert [one["throughput_mbps"] for one in told["chunks"]] == pytest.approx([0.032, 0.144])
    rates = play.setting.video.rates_kbps
    # by hand: one chunk was decided about, whose rate is the rise above the first one's
    ours = (rates[1] - (rates[1] - rates[0])) * 1e-3
    assert told["qoe"] == pytest.approx({"us (here)": ours, "rival": 1.2})
    assert (told["session"], told["total"]) == ("s", 3)


def test_a_missing_npm_is_told_with_what_installs_it(tmp_path, monkeypatch):
    from netllm.real.player_library import library

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="apt-get install npm"):
        library("shaka")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_a_registry_that_cannot_be_reached_is_told(tmp_path, monkeypatch):
    from netllm.real.player_library import library

    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(ConnectionError, match="npm could not fetch shaka-player@"):
        library("shaka")
    assert [*(tmp_path / "real").rglob("*.js")] == []


def test_a_library_that_is_not_the_one_that_was_tested_is_refused(tmp_path, monkeypatch):
    from netllm.real.player_library import library

    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path))
    file = tmp_path / "real" / "hls.js-1.7.4" / "hls.min.js"
    file.parent.mkdir(parents=True)
    file.write_text("alert(1)")
    with pytest.raises(RuntimeError, match=r"must be dist/hls\.min\.js of hls\.js 1\.7\.4.*Delete"):
        library("hlsjs")


def test_a_missing_chromium_is_told_with_what_installs_it(tmp_path, monkeypatch):
    from netllm.real.browser import program

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        program()


def test_a_chromium_that_does_not_start_is_told(tmp_path, monkeypatch):
    pytest.importorskip("playwright", reason="needs netllm[real]")
    from netllm.real.browser import browser

    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho 'no display' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    async def run():
        async with browser():
            pass

    with pytest.raises(RuntimeError, match="chromium cannot be started"):
        asyncio.run(run())


def test_chromium_is_found_by_any_of_its_names(tmp_path, monkeypatch):
    from netllm.real.browser import program

    place = tmp_path / "google-chrome"
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("google-chrome") == program() == str(place)
