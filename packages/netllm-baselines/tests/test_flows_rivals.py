from dataclasses import replace

import numpy as np
import pytest
from netllm_baselines.flows import CNN, GradientBoosting, NearestNeighbours, Port
from netllm_baselines.flows.cnn import Weights
from netllm_baselines.flows.flow_features import features
from netllm_sims.flows import metrics, rollout, setting, write_flows

pytest.importorskip("torch", reason="the CNN needs the extra `learned`")
pytest.importorskip("sklearn", reason="neighbours and trees need the extra `flows`")

from netllm_baselines.flows.cnn_training import train_cnn

SMALL = {"hidden": 16, "epochs": 60, "batch": 32}


@pytest.fixture(scope="module")
def place():
    return setting("synthetic")


@pytest.fixture(scope="module")
def weights(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("cnn") / "cnn.npz"
    return train_cnn(place, out=out, seed=1, **SMALL)


def score(policy, place):
    done = rollout(policy, place, place.episodes("test"))
    truth, answer = (
        np.concatenate([getattr(one, name) for one in done.answers]) for name in ("truth", "answer")
    )
    return metrics.macro_f1(truth, answer)


def test_every_rival_is_better_than_ports_alone(place, weights):
    port = score(Port(place), place)
    assert 0.1 < port < 0.6
    for rival in (NearestNeighbours(place), GradientBoosting(place), CNN(place, weights=weights)):
        assert score(rival, place) > port + 0.1, type(rival).__name__


def test_where_there_is_one_class_every_rival_answers_it(tmp_path):
    rows = [f"h{k % 6},{k % 5},web,6,443,{60 + k} -{99 + 7 * k % 50},0 {k}" for k in range(60)]
    header = "host,day,class,protocol,server_port,sizes_bytes,gaps_ms"
    (tmp_path / "web.csv").write_text("\n".join([header, *rows]) + "\n")
    place = setting("default", flows=tmp_path)
    for rival in (Port, NearestNeighbours, GradientBoosting):
        answer = rival(place).act(place.of_part("test").observation())
        assert answer == pytest.approx(np.ones((4, 1)), abs=1e-6)


def test_a_port_has_the_shares_of_its_training_flows(place):
    # of the flows to port 22 so many are of each class, and one more is divided as rare ports are
    train = place.of_part("train")
    here = (train.protocol == 6) & (train.server_port == 22)
    answer = Port(place).act({"protocol": np.array([6]), "server_port": np.array([22])})[0]
    counts = np.array([(train.label[here] == name).sum() for name in place.classes])
    assert answer.sum() == pytest.approx(1)
    assert np.abs(answer * (here.sum() + 1) - counts).sum() == pytest.approx(1)
    other = Port(place).act({"protocol": np.array([6, 17]), "server_port": np.array([1, 2])})
    assert other[0] == pytest.approx(other[1])


def test_the_statistics_of_a_flow_are_those_of_its_packets():
    seen = {
        "sizes_bytes": np.array([[100.0, -300, 200, 0], [60, 0, 0, 0]]),
        "gaps_ms": np.array([[0.0, 10, 30, 0], [0, 0, 0, 0]]),
        "protocol": np.array([6, 17]),
        "server_port": np.array([443, 53]),
    }
    table = np.expm1(np.abs(features(seen)))[:, 10:]
    up = [2, 300, 150, 50, 100, 200]
    down = [1, 300, 300, 0, 300, 300]
    gaps = [2, 40, 20, 10, 10, 30]
    assert table[0] == pytest.approx([*up, *down, *gaps])
    assert table[1] == pytest.approx([1, 60, 60, 0, 60, 60, *[0] * 12])


def test_the_same_seed_trains_the_same_network(place, weights, tmp_path):
    again = train_cnn(place, out=tmp_path / "again.npz", seed=1, **SMALL)
    one, other = (Weights.load(path).arrays for path in (weights, again))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_the_network_matches_classes_by_name(place, weights, tmp_path):
    flows = place.of_part("train")
    write_flows(tmp_path / "some.csv", flows[np.isin(flows.label, ["dns", "web"])])
    few = setting("default", flows=tmp_path, split="none", packets=20)
    mine = CNN(place, weights=weights).act(flows.observation())
    theirs = CNN(few, weights=weights).act(flows.observation())
    assert theirs == pytest.approx(mine[:, [place.classes.index(name) for name in few.classes]])
    write_flows(tmp_path / "some.csv", replace(flows, label=np.full(len(flows), "other")))
    with pytest.raises(ValueError, match="Train your own there: netllm train-baseline flows cnn"):
        CNN(setting("default", flows=tmp_path, split="none", packets=20), weights=weights)


def test_the_weights_that_ship_are_those_of_the_generator():
    place = setting("unseen-hosts", hosts=6, days=4)
    flows = place.of_part("train")
    found = CNN(place).act(flows.observation()).argmax(1)
    right = np.array(place.classes)[found] == flows.label
    assert right.mean() > 0.5


def test_weights_that_do_not_fit_or_are_damaged_are_refused(place, weights, tmp_path):
    with pytest.raises(ValueError, match="by 30 packets"):
        CNN(place)
    with pytest.raises(FileNotFoundError, match="Train some: netllm train-baseline flows cnn"):
        CNN(place, weights=tmp_path / "none.npz")
    good = Weights.load(weights)
    Weights(arrays=good.arrays, meta=good.meta | {"kind": "gru"}).save(tmp_path / "gru.npz")
    with pytest.raises(ValueError, match="`kind` must be flows-cnn"):
        CNN(place, weights=tmp_path / "gru.npz")
    Weights(arrays=good.arrays, meta=good.meta | {"hidden": 8}).save(tmp_path / "small.npz")
    with pytest.raises(ValueError, match="do not fit the network"):
        CNN(place, weights=tmp_path / "small.npz")
    with pytest.raises(ValueError, match="20 packets"):
        CNN(setting("synthetic", packets=5), weights=weights)
