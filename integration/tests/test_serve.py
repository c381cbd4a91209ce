"""A real server on a free port: sessions, deadlines, limits and faults."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from netllm import registry
from netllm.serve.schema import split
from netllm_sims import cjs
from netllm_sims.abr.rollout import rollout

PATIENCE_S = 60
PATIENT = {"deadline_ms": PATIENCE_S * 1e3}


class Held:
    """A policy that waits at a gate before each answer; the rest is another's."""

    def __init__(self, policy):
        self._policy = policy
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        for name in ("reset", "open", "close", "took", "begin"):
            if hasattr(policy, name):
                setattr(self, name, getattr(policy, name))

    def act(self, observation):
        self.entered.release()
        assert self.gate.wait(PATIENCE_S)
        return self._policy.act(observation)


@pytest.fixture(scope="module")
def played(varied):
    """What players see in four sessions of random choices: by session and step, as JSON."""
    task, setting, _ = varied("abr")
    sessions = task.episodes(setting, "test", count=4)
    done = rollout(registry.policy("abr", "random", setting), setting, sessions, record=True)
    fields = task.observation_fields(setting)
    return [
        split(fields, {name: values[row] for name, values in done.observations.items()})
        for row in range(4)
    ]


def opened(client, count=1, task="abr"):
    answer = client.post(f"/v1/{task}/sessions", json={"count": count})
    assert answer.status_code == 200, answer.text
    return answer.json()["sessions"]


def decide(client, *asked, task="abr", **more):
    """Answers to pairs of session and observation."""
    decisions = [{"session": session, "observation": seen} for session, seen in asked]
    answer = client.post(f"/v1/{task}/decisions", json={"decisions": decisions, **PATIENT, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["decisions"]


def refused(response, status):
    """The text of a refusal."""
    assert response.status_code == status, response.text
    return response.json()["error"]


def alone(varied, seen, took=None):
    """The answers of one session where nobody else is served; `took` by step, -1 for never seen."""
    task, setting, model = varied("abr")
    policy, answers, missed = task.policy(model, setting), [], 0.0
    for step, one in enumerate(seen):
        done = (took or {}).get(step)
        if done == -1:
            missed += one["reward"]
            answers.append(None)
            continue
        batch = {name: np.array([value]) for name, value in one.items()}
        batch["reward"], missed = batch["reward"] + missed, 0.0
        answers.append(int(policy.act(batch)[0]))
        if done is not None:
            policy.took(np.array([done]))
    return answers


def metric(client, line):
    text = client.get("/metrics").text
    return sum(float(one.split()[-1]) for one in text.splitlines() if one.startswith(line))


def until(true):
    """Wait for what must come true."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_sessions_that_are_served_together_answer_as_each_does_alone(served, seat, varied, played):
    wanted = [alone(varied, seen[:20]) for seen in played]
    assert len({answer for one in wanted for answer in one}) > 2
    held = []
    client, service = served(seat(wrap=lambda policy: held.append(Held(policy)) or held[0]))
    sessions = opened(client, 4)
    held[0].gate.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(decide, client, (sessions[0], played[0][0]))
        assert held[0].entered.acquire(timeout=PATIENCE_S)
        others = [pool.submit(decide, client, (sessions[k], played[k][0])) for k in (1, 2, 3)]
        until(lambda: service.worker.waiting == 3)
        held[0].gate.set()
        given = [[one.result()[0]["answer"]] for one in (first, *others)]

        def play(k):
            return [decide(client, (sessions[k], one))[0] for one in played[k][1:20]]

        for own, rest in zip(given, pool.map(play, range(4)), strict=True):
            own += [one["answer"] for one in rest]
            assert {one["by"] for one in rest} == {"model"}
    assert given == wanted
    assert metric(client, 'netllm_batch_sessions_bucket{le="2.0",task="abr"}') < metric(
        client, 'netllm_batch_sessions_count{task="abr"}'
    )


def test_clusters_are_scheduled_over_http_as_beside_their_simulator(served, seat, varied):
    task, setting, model = varied("cjs")
    client, _ = served(seat("cjs"))
    fields = task.observation_fields(setting)
    simulator = cjs.Simulator(setting, setting.episodes("test", episodes=1)[0])
    policy = task.policy(model, setting)
    policy.begin([simulator])
    (session,) = opened(client, task="cjs")
    for _ in range(40):
        seen = simulator.observe()
        wanted = policy.act(seen)[0].tolist()
        (given,) = decide(client, (session, split(fields, seen)[0]), task="cjs")
        assert (given["answer"], given["by"]) == (wanted, "model")
        simulator.step(*wanted)


def test_viewports_need_no_session(served, seat, varied):
    task, setting, model = varied("vp")
    client, _ = served(seat("vp"))
    clip = setting.clips("test", episodes=1)[0]
    seen = {**clip.fields(slice(0, 3)), "video": np.array([clip.video] * 3)}
    asked = [{"observation": one} for one in split(task.observation_fields(setting), seen)]
    answer = client.post("/v1/vp/decisions", json={"decisions": asked, **PATIENT}).json()
    wanted = task.policy(model, setting).act(seen)
    assert np.array_equal([one["answer"] for one in answer["decisions"]], wanted)
    late = client.post("/v1/vp/decisions", json={"decisions": asked, "deadline_ms": 0}).json()
    assert {one["by"] for one in late["decisions"]} <= {"hold-last", "model"}
    assert client.post("/v1/vp/sessions", json={}).status_code == 404


def test_after_the_deadline_the_fallback_answers_and_the_session_goes_on_from_that(
    served, seat, varied, played
):
    held = []
    client, _ = served(seat(wrap=lambda policy: held.append(Held(policy)) or held[0]))
    (session,) = opened(client)
    (begun,) = opened(client)
    rule = registry.policy("abr", "steady", varied("abr")[1])
    by_rule = int(rule.act({name: np.array([one]) for name, one in played[0][3].items()})[0])
    given = [decide(client, (session, one))[0] for one in played[0][:3]]
    # The worker is busy with another session, so that step 3 is given up before its turn.
    while held[0].entered.acquire(blocking=False):
        pass
    held[0].gate.clear()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(decide, client, (begun, played[1][0]))
        assert held[0].entered.acquire(timeout=PATIENCE_S)
        given += decide(client, (session, played[0][3]), deadline_ms=0)
        assert metric(client, 'netllm_fallback_decisions_total{reason="late",task="abr"}') == 1
        held[0].gate.set()
        assert other.result()[0]["by"] == "model"
    given += [decide(client, (session, one))[0] for one in played[0][4:9]]
    assert [one["by"] for one in given] == ["model"] * 3 + ["steady"] + ["model"] * 5
    assert [one["step"] for one in given] == [*range(9)]
    assert given[3]["answer"] == by_rule
    wanted = alone(varied, played[0][:9], took={3: -1})
    assert [one["answer"] for one in given[:3] + given[4:]] == wanted[:3] + wanted[4:]


def test_a_late_answer_of_the_model_is_not_what_the_session_remembers(served, seat, varied, played):
    held = []
    client, service = served(seat(wrap=lambda policy: held.append(Held(policy)) or held[0]))
    (session,) = opened(client)
    given = [decide(client, (session, one))[0] for one in played[0][:3]]
    while held[0].entered.acquire(blocking=False):
        pass
    held[0].gate.clear()
    fell = 0
    for one in played[0][3:5]:  # the worker is held in the first; the second never has its turn
        given += decide(client, (session, one), deadline_ms=500)
        fell += given[-1]["by"] == "steady"
    assert fell == 2
    began = held[0].entered.acquire(blocking=False)
    held[0].gate.set()
    given += [decide(client, (session, one))[0] for one in played[0][5:10]]
    took = {3: given[3]["answer"] if began else -1, 4: -1}
    wanted = alone(varied, played[0][:10], took)
    assert [one["answer"] for one in given[5:]] == wanted[5:]
    assert service.worker.alive


def test_more_sessions_than_allowed_are_refused_until_one_is_closed(served, seat):
    client, _ = served(seat(), sessions=3)
    first = opened(client, 2)
    answer = client.post("/v1/abr/sessions", json={"count": 2})
    assert "At most 3 sessions may be open" in refused(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1
    never = client.post("/v1/abr/sessions", json={"count": 4})
    assert "`count` must be at most 3, got 4" in refused(never, 422)
    assert client.delete(f"/v1/abr/sessions/{first[0]}").status_code == 204
    assert metric(client, 'netllm_sessions{task="abr"}') == 1
    opened(client, 2)
    gone = client.delete(f"/v1/abr/sessions/{first[0]}")
    assert "was closed" in refused(gone, 404)


def test_more_decisions_than_may_wait_are_refused(served, seat, played):
    held = []
    client, service = served(
        seat(wrap=lambda policy: held.append(Held(policy)) or held[0]), queue=1
    )
    sessions = opened(client, 3)
    held[0].gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(decide, client, (sessions[0], played[0][0]))
        assert held[0].entered.acquire(timeout=PATIENCE_S)
        second = pool.submit(decide, client, (sessions[1], played[1][0]))
        until(lambda: service.worker.waiting == 1)
        asked = {"decisions": [{"session": sessions[2], "observation": played[2][0]}]}
        answer = client.post("/v1/abr/decisions", json=asked)
        assert "At most 1 decisions may wait" in refused(answer, 503)
        assert answer.headers["Retry-After"] == "1"
        busy = {"decisions": [{"session": sessions[0], "observation": played[0][1]}]}
        assert "is being decided about" in refused(client.post("/v1/abr/decisions", json=busy), 409)
        held[0].gate.set()
        assert first.result()[0]["by"] == second.result()[0]["by"] == "model"
    assert decide(client, (sessions[2], played[2][0]))[0]["step"] == 0


def test_a_player_is_answered_by_the_fallback_where_the_queue_is_full(served, seat, played):
    held = []
    client, service = served(
        seat(wrap=lambda policy: held.append(Held(policy)) or held[0]), queue=1, deadline_s=60
    )
    told = {"lastquality": 3, "buffer": 60, "RebufferTime": 0, "lastChunkSize": 9e5}
    told |= {"lastChunkStartTime": 0, "lastChunkFinishTime": 1e3}

    def ask(chunk):
        answer = client.post("/", json=told | {"lastRequest": chunk})
        assert answer.status_code == 200, answer.text
        return answer.text

    ask(0)
    (player,) = service.sessions
    others = opened(client, 2)
    while held[0].entered.acquire(blocking=False):
        pass
    held[0].gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(decide, client, (others[0], played[0][0]))
        assert held[0].entered.acquire(timeout=PATIENCE_S)
        second = pool.submit(decide, client, (others[1], played[1][0]))
        until(lambda: service.worker.waiting == 1)
        assert ask(1) == ask(1) == "4"  # the fallback's: the link bears one level more
        assert metric(client, 'netllm_fallback_decisions_total{reason="full",task="abr"}') == 1
        assert player.unseen_reward == pytest.approx(1.85)
        held[0].gate.set()
        assert first.result()[0]["by"] == second.result()[0]["by"] == "model"
    ask(2)
    assert (player.step, player.unseen_reward) == (2, 0.0)


def test_a_session_that_idles_is_closed_and_its_client_told(served, seat, played):
    client, _ = served(seat(), idle_s=0.05)
    (session,) = opened(client)
    until(lambda: metric(client, "netllm_evicted_sessions_total") == 1)
    asked = {"decisions": [{"session": session, "observation": played[0][0]}]}
    told = refused(client.post("/v1/abr/decisions", json=asked), 404)
    assert "was not used for 0.05 s. Open a new one." in told


def test_ten_thousand_abandoned_sessions_leave_nothing_behind(served, seat, played):
    policies = []
    client, service = served(
        seat(wrap=lambda policy: policies.append(policy) or policy), sessions=1000, idle_s=0.02
    )
    for _ in range(10):
        until(lambda: client.post("/v1/abr/sessions", json={"count": 1000}).status_code == 200)
        for one in [*service.sessions][:1]:
            asked = {"decisions": [{"session": one.id, "observation": played[0][0]}]}
            assert client.post("/v1/abr/decisions", json=asked).status_code in (200, 404)
    until(lambda: not [*service.sessions])
    assert metric(client, "netllm_evicted_sessions_total") == 10_000
    until(lambda: not policies[0]._rows)
    assert len(policies[0]._stream._sessions) <= 5


def test_a_step_that_was_answered_is_answered_the_same_again(served, seat, played):
    client, _ = served(seat())
    (session,) = opened(client)

    def ask(step, seen):
        asked = [{"session": session, "observation": seen, "step": step}]
        return client.post("/v1/abr/decisions", json={"decisions": asked, **PATIENT})

    first = ask(0, played[0][0])
    assert ask(0, played[0][0]).json() == first.json()
    second = ask(1, played[0][1]).json()["decisions"][0]
    assert second["step"] == 1
    assert "step` must be 2, or 1 to get the last answer again, got 0" in refused(
        ask(0, played[0][0]), 409
    )


def test_a_client_that_vanishes_takes_nobody_with_it(served, seat, varied, played):
    client, service = served(seat())
    mine, theirs = opened(client, 2)
    asked = {"session": theirs, "observation": played[1][0], "step": 0}
    body = json.dumps({"decisions": [asked], **PATIENT}).encode()
    head = (
        f"POST /v1/abr/decisions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    where = (client.base_url.host, client.base_url.port)
    for sent in (
        head + body[:100],
        head + body,
    ):  # in the middle of its body, and before its answer
        with socket.create_connection(where) as connection:
            connection.sendall(sent)
    until(lambda: service.session("abr", theirs).step == 1)
    assert [decide(client, (mine, one))[0]["answer"] for one in played[0][:4]] == alone(
        varied, played[0][:4]
    )
    again = client.post("/v1/abr/decisions", json={"decisions": [asked], **PATIENT})
    assert again.json()["decisions"][0]["answer"] == alone(varied, played[1][:1])[0]


def test_bodies_that_are_wrong_are_refused_with_what_must_hold(served, seat, played):
    client, _ = served(seat(), body_bytes=20_000, body_s=0.2)
    (session,) = opened(client)
    url, kind = "/v1/abr/decisions", {"Content-Type": "application/json"}

    def post(content, headers=kind):
        return client.post(url, content=content, headers=headers)

    assert "must be JSON" in refused(post(b'{"decisions": ['), 400)
    assert "must be JSON" in refused(post(b"\xff\xfe"), 400)
    assert "Expected `object`" in refused(post(b"[" * 10_000), 422)
    assert refused(post(b'{"decisions": ' + b"[" * 10_000), 422)
    assert "must be application/json" in refused(post(b"{}", {"Content-Type": "text/plain"}), 415)
    assert "20,000 bytes at most" in refused(post(b" " * 20_001), 413)
    assert "20,000 bytes at most" in refused(post(iter([b" " * 9_000] * 3)), 413)

    def slow():
        yield b"{"
        time.sleep(1)
        yield b"}"

    assert "must arrive within 0.2 s" in refused(post(slow()), 408)
    short = played[0][0] | {"delay_s": [1.0]}
    asked = {"decisions": [{"session": session, "observation": short}]}
    told = refused(client.post(url, json=asked), 422)
    assert "decisions[0].observation.delay_s" in told
    missing = {key: value for key, value in played[0][0].items() if key != "buffer_s"}
    asked = {"decisions": [{"session": session, "observation": missing}]}
    assert "`buffer_s`" in refused(client.post(url, json=asked), 422)
    twice = {"decisions": [{"session": session, "observation": played[0][0]}] * 2}
    assert "name each session once" in refused(client.post(url, json=twice), 422)
    long = {"decisions": [{"session": session, "observation": played[0][0]}], "deadline_ms": 1e9}
    assert "`deadline_ms` must be at most 120000" in refused(client.post(url, json=long), 422)
    assert decide(client, (session, played[0][0]))[0]["step"] == 0


def test_a_cluster_that_contradicts_itself_is_refused(served, seat, varied):
    task, setting, _ = varied("cjs")
    client, _ = served(seat("cjs"))
    simulator = cjs.Simulator(setting, setting.episodes("test", episodes=1)[0])
    seen = split(task.observation_fields(setting), simulator.observe())[0]
    (session,) = opened(client, task="cjs")
    circle = seen | {"edges": [[0, 1], [1, 0]]}
    asked = {"decisions": [{"session": session, "observation": circle}]}
    told = refused(client.post("/v1/cjs/decisions", json=asked), 422)
    assert "`decisions[0].observation`: `edges` must" in told


def test_a_token_is_required_of_all_but_probes(served, seat):
    client, _ = served(seat(), token="secret")
    for given in ({}, {"Authorization": "Bearer other"}, {"Authorization": "secret"}):
        answer = client.get("/v1/tasks", headers=given)
        assert "A token is required" in refused(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert client.get("/metrics", headers=given).status_code == 401
        assert client.get("/openapi.json", headers=given).status_code == 401
    right = {"Authorization": "Bearer secret"}
    assert client.get("/v1/tasks", headers=right).json()["abr"]["fallback"] == "steady"
    assert client.get("/health").json() == {"alive": True}
    assert client.get("/ready").json() == {"ready": True}


def test_scripts_for_players_are_given_to_anybody(served, seat):
    client, _ = served(seat(), token="secret")
    script = client.get("/players/netllm.js")
    assert "javascript" in script.headers["content-type"]
    assert "function dashjs(player, options)" in script.text
    assert client.get("/players/other.js").status_code == 404
    assert client.get("/players/..%2fapp.py").status_code == 404


def test_pages_of_named_origins_alone_may_ask(served, seat):
    page = "https://player.example"
    client, _ = served(seat(), token="secret", allow_origins=[page])
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = client.options("/v1/abr/decisions", headers={"Origin": page, **asks})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == page
    other = client.options("/v1/abr/decisions", headers={"Origin": "https://evil.example", **asks})
    assert "access-control-allow-origin" not in other.headers
    closed, _ = served(seat())
    told = closed.get("/health", headers={"Origin": page})
    assert "access-control-allow-origin" not in told.headers


def test_the_server_describes_itself_for_each_task(served, seat):
    client, _ = served(seat(), seat("vp"), seat("cjs"))
    told = client.get("/openapi.json").json()
    assert {"/v1/abr/decisions", "/v1/abr/sessions", "/v1/vp/decisions"} <= told["paths"].keys()
    named = told["paths"]["/pensieve/{player}"]["post"]["parameters"]
    assert [one["name"] for one in named] == ["player"]
    schemas = told["components"]["schemas"]
    assert schemas["AbrObservation"]["properties"]["sizes_mb"]["minItems"] == 6
    assert "lastRequest" in schemas["PensieveMessage"]["required"]
    assert schemas["CjsObservation"]["properties"]["stages"]["description"].startswith("Unfinished")

    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = [*node.values()]
        for one in node if isinstance(node, list) else ():
            yield from references(one)

    named = {one.removeprefix("#/components/schemas/") for one in references(told)}
    assert named <= schemas.keys()
    fields = client.get("/v1/tasks").json()["abr"]["observation"]
    assert fields["buffer_s"] == {
        "kind": "float",
        "shape": [],
        "required": True,
        "text": "Playback time in the buffer.",
    }
