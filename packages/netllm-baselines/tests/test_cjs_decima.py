import gzip
import json
import os
import random
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from netllm_baselines.cjs import Decima, DecimaGreedy, DecimaOurs
from netllm_baselines.cjs.decima_weights import PERCEPTRONS, Weights
from netllm_sims import cjs

UNSTARTED, RECENT_MS = (cjs.STAGE_COLUMNS.index(name) for name in ("unstarted", "recent_ms"))


def weights(features, seed=0):
    """Random weights of the published network (5 features) or the extended one (12)."""
    rng = np.random.default_rng(seed)
    gnn, policy = (32, 16, 16), (64, 64, 1)
    executors = 36 if features == 5 else features + 50
    inputs = (features, 16, 16, features + 16, 16, features + 48, executors)
    arrays = {}
    for name, width in zip(PERCEPTRONS, inputs, strict=True):
        for layer, outputs in zip((0, 2, 4), policy if "policy" in name else gnn, strict=True):
            shape = outputs, width
            arrays[f"{name}.{layer}.weight"] = rng.normal(0, width**-0.5, shape).astype(np.float32)
            arrays[f"{name}.{layer}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
            width = outputs
    return Weights(arrays=arrays)


@pytest.fixture(scope="module")
def small():
    return cjs.setting("synthetic", num_jobs=8, num_executors=12)


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("NETLLM_DATA")
    if not folder or not Path(folder, "cjs", "weights").is_dir():
        pytest.skip("NETLLM_DATA names no folder with Decima's weights")
    return Path(folder)


@pytest.fixture(scope="module")
def recorded(data):
    file = data.parent / "oracle" / "cjs_replay_e10_c20_s0.json.gz"
    if not file.is_file():
        pytest.skip(f"the recorded episodes are not at {file}")
    with gzip.open(file, "rt") as stream:
        return json.load(stream)["decima"]


def draw_durations(stream, world, tasks):
    """Durations of started tasks as the reference draws them from Python's random stream."""
    for _, _, _, stage, local, wave, _ in tasks.tolist():
        left, right = world.bracket[int(local)]
        low, high = cjs.LEVELS[left], cjs.LEVELS[right]
        level = left
        if left != right and 1 + int(stream.random() * (high - low)) > local - low:
            level = right
        start, count, warms_up = world.cells[world.row[int(stage)], int(wave), level].tolist()
        picked = stream.choice(range(count))
        yield world.durations_ms[start + picked] + warms_up * 1000


def test_every_action_of_the_recorded_episode_is_taken_with_the_reference_stream(data, recorded):
    """One stream, `random.seed(0)`, gave the reference all actions and durations in turn."""
    setting = cjs.setting("default", data=data, num_executors=10, num_jobs=20)
    durations = cjs.Replay(np.array([task[4] for task in recorded["task_duration_draws"]]))
    jobs = setting.workload(0)
    episode = cjs.Episode(id="recorded", seed=0, jobs=jobs, durations=durations)
    simulator = cjs.Simulator(setting, episode, log=True)
    policy, stream, tasks = Decima(setting), random.Random(0), 0
    for action in recorded["actions_stage_idx_num_exec"]:
        started = simulator.task_log[tasks:]
        assert list(draw_durations(stream, simulator.world, started)) == started[:, 1].tolist()
        tasks += len(started)
        uniforms = np.array([[stream.random(), stream.random()]])
        chosen, log_probability = policy.choose(simulator.observe(), uniforms)
        assert chosen[0].tolist() == action
        assert (log_probability <= 0).all()
        simulator.step(*action)
    assert simulator.done


def mlp(arrays, name, x):
    """A perceptron in NumPy; the policies' activation is tanh."""
    for layer in (0, 2, 4):
        x = x @ arrays[f"{name}.{layer}.weight"].T + arrays[f"{name}.{layer}.bias"]
        if layer < 4:
            x = np.tanh(x) if "policy" in name else np.where(x > 0, x, 0.2 * x)
    return x


def plain_features(seen, extended):
    stages, jobs, job = seen["stages"].astype(float), seen["jobs"].astype(float), seen["stage_job"]
    (cluster,), (free,) = seen["executors"], seen["committable"]
    room = np.minimum(np.maximum(cluster - jobs[:, 0], 0), free)
    room[jobs[:, 4] > 0] = free
    left, recent_s = stages[:, UNSTARTED], stages[:, RECENT_MS] / 1000
    columns = [room[job] / cluster, 2 * jobs[job, 4] - 1, jobs[job, 0] / cluster]
    columns += [left / 200, left * recent_s / 100]
    if extended:
        columns += [*(stages[:, 1:4] / cluster).T, seen["frontier"], np.log1p(left) / 4]
        columns += [np.log1p(recent_s) / 2, np.log1p(left * recent_s) / 5]
    return np.stack(columns, axis=1), room.astype(int)


def plain_embedding(arrays, x, edges, extended):
    """Levels of depth from below; the published ones hold edges between children too."""
    node = "encoder.node_encoder.mlp_"
    start = mlp(arrays, node + "prep", x)
    if not len(edges) and not extended:
        return start
    depth, h = np.zeros(len(x), int), np.zeros_like(start)
    for _ in x:
        for parent, child in edges:
            depth[child] = max(depth[child], depth[parent] + 1)
    leaves = ~np.isin(np.arange(len(x)), edges[:, 0])
    h[leaves] = mlp(arrays, node + "update", start[leaves])
    for level in reversed(range(depth.max())):
        at = set(np.flatnonzero(depth == level))
        inside = at | {child for parent, child in edges if parent in at}
        some = [(p, c) for p, c in edges if (p in at if extended else {p, c} <= inside)]
        message, before = mlp(arrays, node + "msg", h), h.copy()
        for parent in {p for p, _ in some}:
            total = sum(message[c] for p, c in some if p == parent)
            before[parent] = start[parent] + mlp(arrays, node + "update", total)
        h = before
    return h


def softmax(scores):
    odds = np.exp(scores - scores.max())
    return odds / odds.sum()


def plain_probabilities(arrays, seen, extended):
    """Of each choice, and of executors given each stage."""
    (cluster,) = seen["executors"]
    x, room = plain_features(seen, extended)
    h, job = plain_embedding(arrays, x, seen["edges"], extended), seen["stage_job"]
    jobs = np.zeros((len(room), 16))
    np.add.at(jobs, job, mlp(arrays, "encoder.dag_encoder.mlp", np.hstack([x, h])))
    whole = mlp(arrays, "encoder.global_encoder.mlp", jobs).sum(axis=0)
    rows = np.flatnonzero(seen["schedulable"])
    inputs = [np.concatenate([x[i], h[i], jobs[job[i]], whole]) for i in rows]
    given = []
    for i in rows:
        count = min(room[job[i]], int(seen["stages"][i, 4])) if extended else room[job[i]]
        own = np.concatenate([x[i], h[i]] if extended else [x[i, :3]])
        shared = np.concatenate([own, jobs[job[i]], whole])
        last = [[k / cluster, (k + 1) / count][: 1 + extended] for k in range(count)]
        each = np.array([np.append(shared, two) for two in last])
        given.append(softmax(mlp(arrays, "exec_policy_network.mlp_score", each)[:, 0]))
    return softmax(mlp(arrays, "stage_policy_network.mlp_score", np.array(inputs))[:, 0]), given


@pytest.mark.parametrize("features", [5, 12])
def test_the_compiled_network_computes_what_plain_numpy_does(small, features):
    """At every decision of an episode: places in the softmax and log-probabilities."""
    own, rng = weights(features), np.random.default_rng(1)
    policy, best = Decima(small, weights=own), Decima(small, weights=own, greedy=True)
    simulator = cjs.Simulator(small, small.episodes("test", episodes=1)[0])
    while not simulator.done:
        seen, uniforms = simulator.observe(), rng.random((1, 2))
        choices, given = plain_probabilities(own.arrays, seen, features == 12)
        ((choice, executors),), (logs,) = policy.choose(seen, uniforms)
        numbers = given[choice]
        two = (choices, choice, uniforms[0, 0]), (numbers, executors - 1, uniforms[0, 1])
        for shares, number, u in two:
            assert shares[:number].sum() - 1e-5 < u < shares[: number + 1].sum() + 1e-5
        wanted = np.log([choices[choice], numbers[executors - 1]])
        np.testing.assert_allclose(logs, wanted, atol=1e-4)
        ((top, count),) = best.act(seen)
        assert choices[top] > choices.max() - 1e-5
        assert given[top][count - 1] > given[top].max() - 1e-5
        simulator.step(choice, executors)


@pytest.mark.parametrize("features", [5, 12])
def test_an_episode_does_not_depend_on_those_beside_it(small, features):
    policy, episodes = Decima(small, weights=weights(features)), small.episodes("test", episodes=3)
    together = cjs.rollout(policy, small, episodes, seed=4, record=True)
    policy.reset(4)
    alone, actions = cjs.Simulator(small, episodes[2]), []
    while not alone.done:
        seen = alone.observe() | {"episode": np.array([2])}
        actions.append(policy.act(seen)[0].tolist())
        alone.step(*actions[-1])
    assert actions == together.actions[2].tolist()
    again, other = (cjs.rollout(policy, small, episodes, seed=s) for s in (4, 5))
    assert again.jct_s.tolist() == together.jct_s.tolist() != other.jct_s.tolist()


def test_decima_follows_the_protocol_and_has_entry_points(small):
    assert isinstance(Decima(small, weights=weights(5)), cjs.Policy)
    points = {p.name: p for p in entry_points(group="netllm.policies")}
    assert points["cjs.decima"].load() is Decima
    assert points["cjs.decima-greedy"].load() is DecimaGreedy
    assert points["cjs.decima-ours"].load() is DecimaOurs


def test_our_weights_are_shipped_with_how_they_were_made(small):
    ours = DecimaOurs(small)
    assert ours.weights.features == 12
    assert {"command", "recipe", "seed", "valid_jct_s"} <= ours.weights.meta.keys()


def test_weights_come_back_from_their_file(tmp_path, small):
    file = tmp_path / "own.safetensors"
    own = Weights(arrays=weights(12).arrays, meta={"seed": 3})
    own.save(file)
    back = Decima(small, weights=file).weights
    assert back.meta == {"seed": 3}
    assert [a.tolist() for a in back.packed()] == [a.tolist() for a in own.packed()]
    assert os.listdir(tmp_path) == [file.name]


def test_missing_and_wrong_weights_are_told_apart(tmp_path, small, monkeypatch):
    monkeypatch.delenv("NETLLM_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="Set NETLLM_DATA or pass `data`"):
        Decima(small)
    with pytest.raises(FileNotFoundError, match="there are no such weights"):
        Decima(small, weights=tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ValueError, match="must hold the weights of Decima"):
        Decima(small, weights=tmp_path / "text")
    arrays = weights(5).arrays
    with pytest.raises(ValueError, match=r"mlp_msg\.0\.weight and \.bias must be there"):
        Weights(arrays={k: v for k, v in arrays.items() if "mlp_msg.0" not in k})
    with pytest.raises(ValueError, match="must take 60 inputs where stages have 12 features"):
        Weights(
            arrays=weights(12).arrays
            | {k: v for k, v in arrays.items() if k.startswith("stage_policy")}
        )
    wrong = {"encoder.global_encoder.mlp.2.weight": np.zeros((16, 31), np.float32)}
    with pytest.raises(ValueError, match=r"must follow on \[16, 32\].*\(16, 31\)"):
        Weights(arrays=arrays | wrong)
