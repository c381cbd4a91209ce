"""A server's models as policies: a simulator asks them and gets what it would get in-process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import netllm
import numpy as np
import pytest
from netllm import registry
from netllm.serve.build_seats import build_seats, by_task
from netllm.serve.client import Client, Connection
from netllm.serve.run import listening


@pytest.fixture(scope="module")
def run(varied, tmp_path_factory):
    """The folder of a model of a task."""

    @cache
    def save(name):
        return str(varied(name)[2].save_pretrained(tmp_path_factory.mktemp("runs") / name))

    return save


@pytest.fixture
def seat(run):
    def build(name):
        return build_seats({name: run(name)}, settings={}, fallbacks={}, data=None)[name]

    return build


@pytest.fixture
def asked(monkeypatch):
    """Let clients ask a server."""

    def run(client, token=None):
        monkeypatch.setenv("NETLLM_SERVER", str(client.base_url))
        if token:
            monkeypatch.setenv("NETLLM_TOKEN", token)

    return run


@pytest.mark.parametrize("task", ["abr", "vp", "cjs"])
def test_a_test_against_the_server_gives_the_in_process_result(task, run, seat, served, asked):
    client, service = served(seat(task), token="secret")
    asked(client, token="secret")
    report = netllm.test(task, policy="client", checkpoint=run(task), episodes=2)
    theirs, ours = report.results
    assert theirs.policy == "client"
    assert theirs.episodes == ours.episodes
    assert theirs.validity == 1.0
    assert not [*service.sessions]


@pytest.mark.parametrize(
    ("task", "rule"), [("abr", "steady"), ("vp", "hold-last"), ("cjs", "fair")]
)
def test_a_seat_is_where_its_checkpoint_was_adapted_beside_the_tasks_fallback(task, rule, seat):
    built = seat(task)
    assert (built.setting.name, built.fallback_name) == ("synthetic", rule)
    assert task != "cjs" or built.setting.num_executors == 6


def test_a_task_without_a_fallback_asks_for_one_before_anything_is_read(install):
    points = {"netllm.tasks": {"smallest": "smallest_task:Smallest"}}
    install("smallest-task", "0.1.0", points, Path(__file__).parent / "own")
    with pytest.raises(ValueError, match=r"no usual fallback.*--fallback smallest=NAME"):
        build_seats({"smallest": "nowhere"}, settings={}, fallbacks={}, data=None)


def test_a_client_of_another_setting_is_told_the_field(seat, served, asked):
    client, _ = served(seat("vp"))
    asked(client)
    place = registry.task("vp").setting("synthetic", history=12)
    with pytest.raises(ValueError, match=r"agree in the field 'viewport_deg' of vp: the server re"):
        Client("vp", place)
    with pytest.raises(ValueError, match="must serve abr, but it serves vp"):
        Client("abr", registry.task("abr").setting("synthetic"))


def test_a_client_counts_the_answers_that_the_model_did_not_give(seat, served, asked):
    abr = seat("abr")
    client, service = served(abr)
    asked(client)
    task, place = abr.task, abr.setting
    environment = task.environment(
        place, task.episodes(place, "test", count=2), seed=0, record=False
    )
    policy = registry.policy("abr", "client", place)
    policy.reset(0)
    assert policy.validity is None
    policy.act(environment.observation())
    assert policy.validity == 1.0

    def broken(sessions, rows, running):
        raise RuntimeError("out of order")

    decide, abr.decide = abr.decide, broken
    policy.act(environment.observation())
    abr.decide = decide
    assert policy.validity == 0.5
    assert len([*service.sessions]) == 2
    policy.reset(0)
    assert not [*service.sessions]


def test_a_client_closes_the_sessions_of_episodes_that_end(seat, served, asked):
    abr = seat("abr")
    client, service = served(abr)
    asked(client)
    task, place = abr.task, abr.setting
    environment = task.environment(
        place, task.episodes(place, "test", count=3), seed=0, record=False
    )
    policy = Client("abr", place)
    seen = environment.observation()
    policy.act({**seen, "episode": np.array([4, 5, 6])})
    assert len([*service.sessions]) == 3
    left = {name: values[[0, 2]] for name, values in seen.items()}
    policy.act({**left, "episode": np.array([4, 6])})
    assert len([*service.sessions]) == 2
    del policy
    assert not [*service.sessions]


def test_who_cannot_be_asked_is_told_what_to_do(seat, served, monkeypatch):
    abr = seat("abr")
    place = abr.setting
    monkeypatch.delenv("NETLLM_SERVER", raising=False)
    with pytest.raises(ValueError, match="set NETLLM_SERVER=http"):
        registry.policy("abr", "client", place)
    with (
        Connection("http://127.0.0.1:9") as nobody,
        pytest.raises(ConnectionError, match="Does `netllm serve` run there"),
    ):
        nobody.tasks()
    client, _ = served(abr, token="secret", sessions=1)
    where = str(client.base_url)
    with (
        Connection(where, token="other") as stranger,
        pytest.raises(PermissionError, match="Set NETLLM_TOKEN"),
    ):
        stranger.tasks()
    with Connection(where, token="secret", patience_s=0) as impatient:
        impatient.open("abr", 1)
        with pytest.raises(ConnectionError, match="At most 1 sessions may be open"):
            impatient.open("abr", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["abr"], "needs TASK=VALUE, such as abr=…, got 'abr'"),
        (["arb=x"], "Unknown task of --checkpoint 'arb'. Did you mean abr"),
        (["abr=x", "abr=y"], "names abr twice"),
    ],
)
def test_what_is_no_task_and_value_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        by_task("--checkpoint", words, known=["abr", "cjs", "vp"])


def test_wrong_arguments_end_the_program_before_any_model_is_read(netllm, run):
    abr, vp = run("abr"), run("vp")
    wrong = {
        ("vp=nowhere",): "holds no checkpoint",
        (f"abr={vp}",): "was adapted to vp, not to abr",
        (f"abr={abr}", "--fallback", "cjs=fair"): "Unknown task of --fall",
        (f"abr={abr}", "--fallback", "abr=bbb"): "Did you mean bba",
        (f"abr={abr}", "--when-unsure", "abr=0.5"): "--when-unsure abr needs a student",
        (f"abr={abr}", "--student", "abr=x", "--when-unsure", "abr=?"): "at least 0, got '?'",
        (f"abr={abr}", "--student", "abr=nowhere.npz"): "nowhere.npz",
        (f"abr={abr}", "--sessions", "0"): "`sessions` must be at least 1",
        (f"abr={abr}", "--deadline", "-1"): "`deadline_s` must lie between",
    }
    for words, message in wrong.items():
        code, _, err = netllm("serve", "--port", "0", "--checkpoint", *words)
        assert code == 2, words
        assert message in err


def test_a_port_that_is_taken_is_named(netllm, run, served, seat):
    client, _ = served(seat("vp"))
    port = client.base_url.port
    code, _, err = netllm("serve", "--checkpoint", f"vp={run('vp')}", "--port", port)
    assert code == 1
    assert f"Cannot listen on 127.0.0.1, port {port}" in err


def test_answers_do_not_wait_until_a_packet_is_full():
    async def answered_at_once():
        accepted = asyncio.get_running_loop().create_future()
        with listening("127.0.0.1", 0) as listener:
            server = await asyncio.start_server(
                lambda reader, writer: accepted.set_result(writer), sock=listener
            )
            _, asking = await asyncio.open_connection(*listener.getsockname())
            answering = await accepted
            connection = answering.get_extra_info("socket")
            try:
                return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            finally:
                asking.close()
                answering.close()
                server.close()

    assert asyncio.run(answered_at_once())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_serves_until_it_is_told_to_end(run, number):
    words = ["serve", "--checkpoint", f"vp={run('vp')}", "--port", "0"]
    environment = {**os.environ, "NETLLM_TOKEN": "secret"}
    environment.pop("NETLLM_DATA", None)
    with subprocess.Popen(
        [sys.executable, "-m", "netllm", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as program:
        try:
            told = next(line for line in program.stderr if line.startswith("Serving vp on http"))
            place = registry.task("vp").setting("synthetic")
            with Connection(told.split()[3].rstrip(";"), token="secret") as connection:
                policy = Client("vp", place, connection=connection)
                answer = policy.act({"viewport_deg": np.zeros((2, place.history, 3))})
            assert answer.shape == (2, place.horizon, 3)
            program.send_signal(number)
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
    assert (program.returncode, out) == (0, "The server has ended.\n"), err
