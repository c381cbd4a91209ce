"""Pensieve's players ask a server of ours as they ask their own."""

import json
import time

import numpy as np
import pytest
from netllm import registry
from netllm_sims.abr import Simulator
from netllm_sims.abr.rollout import rollout

PATIENT = {"deadline_s": 60.0}
TEXT = {"Content-Type": "text/plain;charset=UTF-8"}
FIRST = {
    "nextChunkSize": [1, 2, 3],
    "bandwidthEst": 1800.5,
    "bufferAdjusted": -0.55,
    "lastquality": 1,
    "buffer": 4.0,
    "lastRequest": 0,
    "RebufferTime": 350,
    "lastChunkFinishTime": 1_700_000_000_900,
    "lastChunkStartTime": 1_700_000_000_100,
    "lastChunkSize": 181_801,
}


class Player:
    """A player of Pensieve's that plays a simulated session and asks over HTTP."""

    def __init__(self, client, path, setting, session):
        self._client, self._path = client, path
        self._simulator = Simulator(setting, [session], dtype=np.float64)
        self.seen, self.chunk, self.now_ms = self._simulator.reset(), 0, 1.7e12
        self.stalled_ms = float(self.seen["stall_s"][0]) * 1e3
        self.answers = []

    def told(self):
        """What the player sends after the last chunk."""
        delay_s, rate_mbps = (float(self.seen[k][0, -1]) for k in ("delay_s", "throughput_mbps"))
        return FIRST | {
            "lastquality": int(self.seen["level"][0]),
            "buffer": float(self.seen["buffer_s"][0]),
            "lastRequest": self.chunk,
            "RebufferTime": self.stalled_ms,
            "lastChunkStartTime": self.now_ms,
            "lastChunkFinishTime": self.now_ms + delay_s * 1e3,
            "lastChunkSize": rate_mbps * delay_s / 8 * 1e6,
        }

    def step(self):
        """Ask, and download the next chunk."""
        answer = ask(self._client, self.told(), self._path)
        assert answer.headers["content-type"].startswith("text/plain")
        self.answers.append(int(answer.text))
        self.seen, _, _ = self._simulator.step(np.array([self.answers[-1]]))
        self.chunk += 1
        self.stalled_ms += float(self.seen["stall_s"][0]) * 1e3


def ask(client, told, path="/", status=200, headers=TEXT):
    answer = client.post(path, content=json.dumps(told), headers=headers)
    assert answer.status_code == status, answer.text
    return answer


@pytest.fixture
def episodes(varied):
    """Some sessions, and what the model answers in each in-process."""
    task, setting, model = varied("abr")
    sessions = task.episodes(setting, "test", count=3)
    wanted = [
        rollout(task.policy(model, setting), setting, [one]).actions[0].tolist() for one in sessions
    ]
    assert len({level for one in wanted for level in one}) > 2
    return setting, sessions, wanted


def test_players_that_ask_like_pensieves_get_the_in_process_decisions(served, seat, episodes):
    setting, sessions, wanted = episodes
    client, service = served(seat(), **PATIENT)
    paths = ("/", "/pensieve/second", "/pensieve/third")
    players = [
        Player(client, path, setting, one) for path, one in zip(paths, sessions, strict=True)
    ]
    for _ in wanted[0]:
        for player in players:
            player.step()
    assert [player.answers for player in players] == wanted
    assert len([*service.sessions]) == 3
    last = len(setting.video.sizes_bytes) - 1
    for player, path in zip(players, paths, strict=True):
        assert ask(client, player.told() | {"lastRequest": last}, path).text == "REFRESH"
    assert not [*service.sessions]


def test_the_model_sees_of_a_player_what_the_simulator_shows(served, watched, episodes):
    setting, sessions, _ = episodes
    built, seen = watched
    client, _ = served(built, **PATIENT)
    player = Player(client, "/", setting, sessions[0])
    for step in range(setting.video.chunks - 1):
        shown = {name: values.copy() for name, values in player.seen.items()}
        player.step()
        for name, values in shown.items():
            if name != "reward" or step > 0:
                assert np.allclose(seen[step][name], values, rtol=1e-6, atol=1e-6), name


def test_the_next_video_of_a_player_begins_anew(served, seat, episodes):
    setting, sessions, wanted = episodes
    client, service = served(seat(), **PATIENT)
    for count in (5, 8):  # the first is left in the middle, and its page loaded anew
        player = Player(client, "/", setting, sessions[0])
        for _ in range(count):
            player.step()
        assert player.answers == wanted[0][:count]
    assert len([*service.sessions]) == 1


def test_a_message_that_comes_twice_is_answered_twice_and_counts_once(served, seat, episodes):
    setting, sessions, wanted = episodes
    client, service = served(seat(), **PATIENT)
    player = Player(client, "/", setting, sessions[0])
    for _ in range(6):
        before = ask(client, player.told()).text
        player.step()
        assert player.answers[-1] == int(before)
    assert player.answers == wanted[0][:6]
    assert [session.step for session in service.sessions] == [6]


def test_a_player_that_a_server_meets_in_the_middle_of_its_video_is_answered(served, seat):
    client, service = served(seat(), **PATIENT)
    told = FIRST | {"lastRequest": 20, "RebufferTime": 90_000}
    assert int(ask(client, told).text) in range(6)
    assert int(ask(client, told | {"lastRequest": 22, "RebufferTime": 90_500}).text) in range(6)
    assert [session.step for session in service.sessions] == [2]


def test_a_player_whose_session_idled_goes_on_in_a_new_one(served, seat):
    client, service = served(seat(), idle_s=0.05, **PATIENT)
    ask(client, FIRST)
    until_s = time.monotonic() + 60
    while [*service.sessions]:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert int(ask(client, FIRST | {"lastRequest": 1}).text) in range(6)


def test_where_the_model_is_late_the_fallback_tells_the_level(served, seat, varied):
    client, _ = served(seat(rule="bba"), deadline_s=0.0)
    rule = registry.policy("abr", "bba", varied("abr")[1])
    for chunk, buffer_s in enumerate((1.0, 12.0, 60.0)):
        given = ask(client, FIRST | {"lastRequest": chunk, "buffer": buffer_s}).text
        assert int(given) == int(rule.act({"buffer_s": np.array([buffer_s])})[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buffer": None}, "Expected `float`, got `null` - at `buffer`"),
        ({"buffer": -1}, "Expected `float` >= 0.0 - at `buffer`"),
        ({"lastRequest": "7"}, "Expected `int`, got `str` - at `lastRequest`"),
        ({"lastquality": 6}, "`lastquality` must lie between 0 and 5, got 6."),
        ({"lastquality": None}, "Expected `int`, got `null` - at `lastquality`"),
        ({"lastChunkFinishTime": 1}, "`lastChunkFinishTime` must not lie before `lastChunkStartT"),
        ({"lastChunkSize": 1e300}, "Expected `float` <= 1000000000000.0 - at `lastChunkSize`"),
        ({"RebufferTime": 349, "lastRequest": 1}, "`RebufferTime` must not fall within a video"),
    ],
)
def test_a_field_of_a_player_that_is_wrong_is_named(change, message, served, seat):
    client, service = served(seat(), **PATIENT)
    ask(client, FIRST)
    assert message in ask(client, FIRST | change, status=422).json()["error"]
    assert [session.step for session in service.sessions] == [1]


def test_what_is_no_message_of_a_player_is_refused(served, seat):
    client, service = served(seat(), body_bytes=1_000)
    for missing in FIRST.keys() - {"nextChunkSize", "bandwidthEst", "bufferAdjusted"}:
        told = {name: value for name, value in FIRST.items() if name != missing}
        assert f"`{missing}`" in ask(client, told, status=422).json()["error"]
    assert client.post("/", content=b"quality", headers=TEXT).status_code == 400
    assert client.post("/", content=b" " * 1_001, headers=TEXT).status_code == 413
    assert ask(client, {"pastThroughput": [1], "summary": True}, status=204).text == ""
    assert not [*service.sessions]


def test_a_download_that_took_no_time_is_no_measurement(served, seat):
    client, _ = served(seat(), **PATIENT)
    told = FIRST | {"lastChunkFinishTime": FIRST["lastChunkStartTime"]}
    assert int(ask(client, told).text) in range(6)


def test_more_players_than_sessions_are_told_to_wait(served, seat):
    client, _ = served(seat(), sessions=1, **PATIENT)
    ask(client, FIRST)
    refused = ask(client, FIRST, "/pensieve/other", status=503)
    assert int(refused.headers["Retry-After"]) >= 1


def test_only_pages_that_are_named_may_ask_as_players(served, seat):
    page = "http://videos.example"
    client, _ = served(seat(), allow_origins=[page], **PATIENT)
    answer = ask(client, FIRST, headers=TEXT | {"Origin": page})
    assert answer.headers["access-control-allow-origin"] == page
    told = ask(client, FIRST, status=403, headers=TEXT | {"Origin": "http://evil.example"})
    assert "Serve with --allow-origin" in told.json()["error"]
    own = str(client.base_url).rstrip("/")
    ask(client, FIRST, headers=TEXT | {"Origin": own})


def test_a_token_is_required_of_players_too(served, seat):
    client, _ = served(seat(), token="secret", **PATIENT)
    ask(client, FIRST, status=401)
    ask(client, FIRST, headers=TEXT | {"Authorization": "Bearer secret"})


def test_no_player_is_answered_where_another_task_is_served(served, seat):
    client, _ = served(seat("vp"))
    ask(client, FIRST, status=404)
