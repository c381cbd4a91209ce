"""Puffer's viewers ask a server of ours over a UNIX socket."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from netllm import registry
from netllm.serve import puffer
from netllm_sims.abr import Simulator

PATIENCE_S = 60.0
PATIENT = {"deadline_s": PATIENCE_S}
LEVELS = 6
TEN_KBPS = (200.0, 400.0, 700.0, 1_000.0, 1_400.0, 1_900.0, 2_500.0, 3_300.0, 4_300.0, 5_500.0)
FIRST = {
    "past_chunk": {
        "delay": 0.0,
        "ssim": 0.0,
        "size": 0.0,
        "cwnd": 0.0,
        "in_flight": 0.0,
        "min_rtt": 0.0,
        "rtt": 0.0,
        "delivery_rate": 0.0,
    },
    "buffer": 0.0,
    "cum_rebuf": 0.0,
    "sizes": [[0.1, 0.3, 0.6, 0.9, 1.4, 2.1]] * 5,
    "ssims": [[0.85] * LEVELS] * 5,
    "channel_name": "abc",
    "ts": 180_180,
}
NEXT = FIRST | {"past_chunk": FIRST["past_chunk"] | {"delay": 0.8, "size": 0.1}, "buffer": 4.0}


class Viewer:
    """One connection, as Puffer's media server keeps it for one viewer."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.settimeout(PATIENCE_S)

    def send(self, content, length=None):
        length = len(content) if length is None else length
        self.socket.sendall(length.to_bytes(2, "big") + content)

    def read(self):
        """The next message, None after the last."""
        head = self.socket.recv(2, socket.MSG_WAITALL)
        if not head:
            return None
        return json.loads(self.socket.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))

    def ask(self, told):
        self.send(json.dumps(told).encode())
        return self.read()["action"]

    def refused(self):
        """Why the connection ends."""
        told = self.read()["error"]
        assert self.read() is None
        return told


def connected(path):
    """A viewer on a server's socket."""
    viewer = Viewer(socket.socket(socket.AF_UNIX))
    viewer.socket.connect(str(path))
    return viewer


@pytest.fixture
def viewers(served, tmp_path):
    """Serve a seat on a socket: gives what connects a viewer, and the service."""

    def run(seat, **limits):
        listener = ends.enter_context(puffer.listening(tmp_path / "puffer"))
        # The server closes its own, which must still be open when it ends.
        _, service = served(seat, puffer=listener.dup(), **limits)

        def connect():
            viewer = connected(tmp_path / "puffer")
            ends.callback(viewer.socket.close)
            return viewer

        return connect, service

    with ExitStack() as ends:
        yield run


def until(true):
    """Wait for what must come true."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def carried(seen, setting):
    """What Puffer's messages carry of what the simulator shows: five chunks ahead, and no end."""
    sizes = seen["sizes_mb"].copy()
    sizes[:, 5] = sizes[:, 4]
    left = np.full_like(seen["chunks_left"], setting.video.chunks - 1)
    return {**seen, "sizes_mb": sizes, "chunks_left": left}


def play(viewer, setting, session, answer=None):
    """The levels of a simulated session, and what was shown before each; Puffer's begins at 0.

    `answer` gives the levels in the server's place.
    """
    simulator = Simulator(setting, [session], dtype=np.float64)
    if viewer:
        sizes = [[*row] for row in setting.video.sizes_bytes[:5] * 1e-6]
        assert viewer.ask(FIRST | {"sizes": sizes}) == 0
    seen, levels, shown = simulator.reset(), [], []
    stalled_s = float(seen["stall_s"][0])
    for step in range(setting.video.chunks - 1):
        shown.append({name: values.copy() for name, values in carried(seen, setting).items()})
        if viewer:
            delay_s, rate = (float(seen[k][0, -1]) for k in ("delay_s", "throughput_mbps"))
            told = {
                "past_chunk": FIRST["past_chunk"] | {"delay": delay_s, "size": rate * delay_s / 8},
                "buffer": float(seen["buffer_s"][0]),
                "cum_rebuf": stalled_s,
                "sizes": seen["sizes_mb"][0, :5].tolist(),
                "ts": 180_180 * (step + 2),
            }
            levels.append(viewer.ask(FIRST | told))
        else:
            levels.append(int(answer(shown[-1])[0]))
        seen, _, _ = simulator.step(np.array([levels[-1]]))
        stalled_s += float(seen["stall_s"][0])
    return levels, shown


def test_viewers_get_the_decisions_of_the_model_that_sees_what_their_messages_carry(
    viewers, watched, varied
):
    task, setting, model = varied("abr")
    seat, asked = watched
    connect, _ = viewers(seat, **PATIENT)
    levels, shown = play(connect(), setting, task.episodes(setting, "test", count=1)[0])
    assert len(set(levels)) > 2
    policy = task.policy(model, setting)
    policy.reset(0)
    session = task.episodes(setting, "test", count=1)[0]
    assert levels == play(None, setting, session, policy.act)[0]
    for step, one in enumerate(shown):
        for name, values in one.items():
            if name != "reward" or step > 0:
                assert np.allclose(asked[step][name], values, rtol=1e-6, atol=1e-6), (step, name)


def test_two_viewers_do_not_see_each_other(viewers, seat, varied):
    task, setting, model = varied("abr")
    sessions = task.episodes(setting, "test", count=2)
    connect, _ = viewers(seat(), **PATIENT)
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda one: play(connect(), setting, one)[0], sessions)
        given = [*both]
    for session, levels in zip(sessions, given, strict=True):
        policy = task.policy(model, setting)
        assert levels == play(None, setting, session, policy.act)[0]


def test_the_session_of_a_viewer_that_vanishes_is_closed(viewers, seat):
    connect, service = viewers(seat(), **PATIENT)
    stays, vanishes = connect(), connect()
    for viewer in (stays, vanishes):
        assert viewer.ask(FIRST) == 0
        assert viewer.ask(NEXT) in range(LEVELS)
    assert len([*service.sessions]) == 2
    vanishes.send(json.dumps(NEXT).encode())
    vanishes.socket.close()
    until(lambda: len([*service.sessions]) == 1)
    assert stays.ask(NEXT) in range(LEVELS)


def test_a_viewer_that_changes_the_channel_begins_a_new_session(viewers, watched):
    seat, asked = watched
    connect, service = viewers(seat, **PATIENT)
    viewer = connect()
    for told in (FIRST, NEXT, NEXT | {"channel_name": "fox"}):
        viewer.ask(told)
    assert len(asked) == 2
    assert asked[0]["episode"] != asked[1]["episode"]
    for name in ("delay_s", "throughput_mbps"):  # the chunk before is not counted again
        assert asked[1][name].tolist() == asked[0][name].tolist()
    assert [session.step for session in service.sessions] == [1]


@pytest.mark.parametrize("limits", [{"deadline_s": 0.0}, {"sessions": 1, **PATIENT}])
def test_where_there_is_no_time_or_room_the_fallback_answers_a_viewer(
    limits, viewers, seat, varied
):
    connect, service = viewers(seat(rule="bba"), **limits)
    if "sessions" in limits:
        service.open("abr", 1)
    rule = registry.policy("abr", "bba", varied("abr")[1])
    viewer = connect()
    assert viewer.ask(FIRST) == 0
    for buffer_s in (1.0, 12.0, 60.0):
        wanted = rule.act({"buffer_s": np.array([buffer_s])})[0]
        assert viewer.ask(NEXT | {"buffer": buffer_s}) == int(wanted)
    reason = "full" if "sessions" in limits else "late"
    counted = f'netllm_fallback_decisions_total{{reason="{reason}",task="abr"}} 3.0'
    assert counted in service.metrics.text().decode()


def test_a_viewer_that_found_no_room_gets_the_model_when_there_is_some(viewers, seat):
    connect, service = viewers(seat(), sessions=1, **PATIENT)
    (other,) = service.open("abr", 1)
    viewer = connect()
    for told in (FIRST, NEXT):
        viewer.ask(told)
    service.sessions.close(other)
    viewer.ask(NEXT)
    assert [session.step for session in service.sessions] == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buffer": None}, "Expected `float`, got `null` - at `buffer`"),
        ({"past_chunk": {"delay": 1.0}}, "missing required field `size` - at `past_chunk`"),
        ({"cum_rebuf": -1.0}, "Expected `float` >= 0.0 - at `cum_rebuf`"),
        ({"sizes": []}, "Expected `array` of length >= 1 - at `sizes`"),
        ({"sizes": [[1.0] * 6, [1.0] * 10]}, "`sizes[1]` must hold 6 sizes, one for each rate of"),
    ],
)
def test_a_field_of_a_viewer_that_is_wrong_is_named(change, message, viewers, seat):
    connect, service = viewers(seat(), **PATIENT)
    viewer = connect()
    assert viewer.ask(FIRST) == 0
    viewer.send(json.dumps(FIRST | change).encode())
    assert message in viewer.refused()
    assert 'netllm_refused_requests_total{status="422"} 1.0' in service.metrics.text().decode()
    assert connect().ask(FIRST) == 0


def test_frames_that_are_wrong_end_their_connection_alone(viewers, seat):
    connect, service = viewers(seat(), body_bytes=2_000, body_s=0.2, **PATIENT)
    stays = connect()
    stays.ask(FIRST)
    cut = connect()
    cut.send(b'{"past_chunk"', length=100)
    cut.socket.shutdown(socket.SHUT_WR)
    assert cut.refused() == "The message ended after 13 of its 100 bytes."
    half = connect()
    half.socket.sendall(b"\0")
    half.socket.shutdown(socket.SHUT_WR)
    assert half.refused() == "The message ended within its length."
    slow = connect()
    slow.send(b"{", length=100)
    assert slow.refused() == "A message must arrive within 0.2 s."
    long = connect()
    long.send(b"", length=65_535)
    assert long.refused() == "A message may have 2,000 bytes, got 65,535."
    for content in (b"", b"level", b"\xff"):
        wrong = connect()
        wrong.send(content)
        assert "must be JSON" in wrong.refused()
    assert stays.ask(NEXT) in range(LEVELS)
    assert len([*service.sessions]) == 1


def test_a_viewer_that_asks_nothing_for_long_is_let_go(viewers, seat):
    connect, service = viewers(seat(), idle_s=0.2, **PATIENT)
    viewer = connect()
    viewer.ask(FIRST)
    assert viewer.refused() == "Nothing was asked for 0.2 s."
    until(lambda: not [*service.sessions])


def test_a_socket_that_a_dead_server_left_is_replaced_and_another_is_not(tmp_path):
    path = tmp_path / "puffer"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with puffer.listening(path):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
        with pytest.raises(OSError, match="another server listens there"), puffer.listening(path):
            pass
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(OSError, match=r"Cannot listen on .*puffer: "), puffer.listening(path):
        pass
    assert path.read_text() == "mine"


def test_puffers_media_server_with_its_ten_levels_is_joined_to_ours_by_the_relay(
    viewers, seat, tmp_path
):
    _, service = viewers(seat(rates_kbps=TEN_KBPS), **PATIENT)
    sizes = [[kbps * 2.002 / 8e3 for kbps in TEN_KBPS]] * 5
    with socket.socket(socket.AF_UNIX) as media:
        media.settimeout(PATIENCE_S)
        media.bind(str(tmp_path / "viewer"))
        media.listen()
        words = ["netllm", str(tmp_path / "puffer"), str(tmp_path / "viewer")]
        with subprocess.Popen([sys.executable, "-m", "netllm.serve.puffer_relay", *words]) as child:
            viewer = Viewer(media.accept()[0])
            with viewer.socket:
                assert viewer.ask(FIRST | {"sizes": sizes}) == 0
                assert viewer.ask(NEXT | {"sizes": sizes}) in range(10)
            assert child.wait(PATIENCE_S) == 0
    until(lambda: not [*service.sessions])


def test_the_program_that_is_told_to_end_lets_its_viewers_go(varied, tmp_path):
    model, path = varied("abr")[2].save_pretrained(tmp_path / "abr"), tmp_path / "puffer"
    words = ["serve", "--checkpoint", f"abr={model}", "--port", "0", "--puffer-socket", str(path)]
    environment = {k: v for k, v in os.environ.items() if k != "NETLLM_DATA"}
    with subprocess.Popen(
        [sys.executable, "-m", "netllm", *words], stderr=subprocess.PIPE, text=True, env=environment
    ) as program:
        try:
            told = next(line for line in program.stderr if line.startswith("Serving abr on http"))
            assert f"and on {path}" in told
            viewer = connected(path)
            with viewer.socket:
                assert [viewer.ask(FIRST), viewer.ask(NEXT) in range(LEVELS)] == [0, True]
                program.terminate()
                assert viewer.read() is None
            assert program.wait(PATIENCE_S) == 0
        finally:
            program.kill()
    assert not path.exists()


def test_a_socket_for_viewers_needs_a_model_that_streams(netllm, varied, tmp_path):
    model = varied("vp")[2].save_pretrained(tmp_path / "vp")
    code, _, err = netllm(
        *("serve", "--checkpoint", f"vp={model}", "--port", "0"),
        *("--puffer-socket", tmp_path / "puffer"),
    )
    assert code == 2
    assert "--puffer-socket needs a checkpoint of abr" in err
    assert not (tmp_path / "puffer").exists()
