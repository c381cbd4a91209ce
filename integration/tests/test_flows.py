"""Flow classification from end to end, on the tiny backbone and generated flows."""

import json
import sys
from dataclasses import replace

import netllm
import numpy as np
import pytest
from netllm import registry
from netllm.flows.policy import Classifier
from netllm.flows.pooled_rows import pooled
from netllm.report.intervals import mean_of
from netllm_adapt import Predictor
from netllm_sims.flows import NONE, metrics, setting, write_flows

TINY = {"steps": 4, "batch": 8, "layers": 1, "dtype": "float32", "validate_every": 2, "rank": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("flows") / "run"
    netllm.adapt("flows", setting="synthetic", backbone="tiny-random", out=out, **TINY)
    return out


@pytest.fixture(scope="module")
def rows():
    """Answers about the flows of 30 hosts on 4 days, some of them of unknown classes."""
    rng = np.random.default_rng(0)
    made = []
    for host in range(30):
        bias = rng.normal(0, 0.15)
        for day in range(4):
            truth = rng.integers(-1, 4, rng.integers(1, 30))
            right = rng.random(len(truth)) < 0.7 + bias
            answer = np.where(right, truth, rng.integers(0, 4, len(truth)))
            confidence = np.clip(rng.beta(4, 2, len(truth)) - 0.2 * (truth == NONE), 0.01, 1)
            benign = truth < 2
            made.append(
                {
                    "id": f"h{host}/d{day}",
                    "weight": len(truth),
                    "classes": list("abcd"),
                    "cluster": {"host": f"h{host}"},
                    "truth": truth.tolist(),
                    "answer": answer.tolist(),
                    "confidence": confidence.tolist(),
                    "benign": int(benign.sum()),
                    "false_alarms": int((benign & (answer >= 2)).sum()),
                }
            )
    return made


def whole(rows):
    """The metrics of all flows of some rows together."""
    truth, answer, confidence = (
        np.concatenate([row[name] for row in rows]) for name in ("truth", "answer", "confidence")
    )
    known = truth != NONE
    alarms, benign = (sum(row[name] for row in rows) for name in ("false_alarms", "benign"))
    recalls = metrics.recall_by_class(truth, answer)
    return {
        **{f"recall of {'abcd'[k]}": one for k, one in enumerate(recalls)},
        "macro_f1": metrics.macro_f1(truth, answer),
        "mean_recall": metrics.mean_recall(truth, answer),
        "false_alarms_per_million": 1e6 * alarms / benign,
        "calibration_error": metrics.calibration_error((truth == answer)[known], confidence[known]),
        "unknown_auroc": metrics.auroc(~known, confidence),
    }


def test_the_mean_of_the_rows_is_the_metric_of_all_flows_together(rows):
    found = pooled(rows)
    for name, value in whole(rows).items():
        assert mean_of(found, name, ci=False).mean == pytest.approx(value), name


@pytest.mark.parametrize("name", ["macro_f1", "mean_recall", "unknown_auroc"])
def test_the_spread_of_the_rows_is_that_of_leaving_out_one_host_after_the_other(rows, name):
    found, hosts = pooled(rows), sorted({row["cluster"]["host"] for row in rows})
    weight = sum(row["weight"] for row in rows)
    mean = whole(rows)[name]
    moved = [
        sum(row["weight"] * (row[name] - mean) for row in found if row["cluster"]["host"] == host)
        for host in hosts
    ]
    left = [whole([row for row in rows if row["cluster"]["host"] != host])[name] for host in hosts]
    jackknife = (len(hosts) - 1) * np.var(left)
    assert np.sum(np.square(moved)) / weight**2 == pytest.approx(jackknife, rel=0.15)


def test_where_all_classes_are_known_and_none_is_an_attack_the_rest_is_as_by_chance(rows):
    known = [
        {**row, "truth": [max(one, 0) for one in row["truth"]], "benign": 0, "false_alarms": 0}
        for row in rows
    ]
    found = pooled(known)
    assert {row["unknown_auroc"] for row in found} == {0.5}
    assert {row["false_alarms_per_million"] for row in found} == {0.0}


def test_a_run_keeps_its_best_checkpoint_with_the_names_of_its_classes(run):
    model = Predictor.from_pretrained(run / "best")
    assert model.state["classes"] == list(setting("synthetic").classes)
    assert 0 <= model.about["validation macro_f1"] <= 1


def test_answers_are_probabilities_of_valid_classes(run):
    model, place = Predictor.from_pretrained(run / "best"), setting("synthetic")
    seen = place.of_part("test").observation()
    answer = Classifier(model, place).act(seen)
    assert answer.shape == (len(seen["protocol"]), len(place.classes))
    assert (answer >= 0).all()
    assert answer.sum(axis=1) == pytest.approx(np.ones(len(answer)))


def test_classes_are_matched_by_name_and_others_are_none_of_them(run, tmp_path):
    model = Predictor.from_pretrained(run / "best")
    flows = setting("synthetic").of_part("train")
    write_flows(tmp_path / "some.csv", flows[np.isin(flows.label, ["dns", "web"])])
    place = setting("default", flows=tmp_path, split="none", packets=20)
    assert place.classes == ("dns", "web")
    mine = Classifier(model, setting("synthetic")).act(flows.observation())
    theirs = Classifier(model, place).act(flows.observation())
    columns = [model.state["classes"].index(name) for name in place.classes]
    assert theirs == pytest.approx(mine[:, columns])
    write_flows(tmp_path / "some.csv", replace(flows, label=np.full(len(flows), "other")))
    with pytest.raises(ValueError, match="no class in common"):
        Classifier(model, setting("default", flows=tmp_path, split="none", packets=20))
    with pytest.raises(ValueError, match="--set packets=20"):
        Classifier(model, setting("synthetic", packets=5))


def test_a_checkpoint_stands_beside_its_rivals_and_is_drawn(run, netllm, tmp_path):
    out = tmp_path / "report"
    policies = ("port", "nearest-neighbours")
    command = ("test", "flows", "--setting", "synthetic", "--policy", *policies)
    code, text, err = netllm(*command, "--checkpoint", run, "--out", out, "--json")
    assert code == 0, err
    document = json.loads(text)
    assert {one["policy"] for one in document["results"]} == {*policies, None}
    assert document["results"][0]["episodes"][0]["cluster"].keys() == {"host"}
    assert {path.name for path in out.glob("*.png")} == {"bars.png", "recall.png"}
    (best,) = (one for one in document["results"] if one["policy"] == "nearest-neighbours")
    assert best["metrics"]["macro_f1"]["mean"] > 0.4
    recalls = [value["mean"] for key, value in best["metrics"].items() if "recall of" in key]
    assert best["metrics"]["mean_recall"]["mean"] == pytest.approx(np.mean(recalls))


def test_the_recall_of_each_class_that_occurs_stands_in_a_table_of_its_own():
    report = netllm.test("flows", policy=["port"], setting="synthetic", episodes=4)
    heading = "synthetic, recall of each class"
    assert heading in str(report)
    assert heading in report.markdown()
    (found,) = report.results
    occurring = {row["classes"][k] for row in found.episodes for k in row["truth"] if k != NONE}
    told = {key.removeprefix("recall of ") for key in found.metrics if "recall of" in key}
    assert told == occurring
    assert "recall of" not in str(report).split(heading)[0]


def test_days_are_clusters_where_other_days_are_asked_about():
    task = registry.task("flows")
    place = task.setting("unseen-days", hosts=6, days=10, flows_per_day=3)
    clusters = task.clusters(place, task.episodes(place, "test", count=3))
    assert {name for one in clusters.values() for name in one} == {"host", "day"}


def test_rivals_without_weights_are_left_out_and_the_cnn_is_trained_by_its_command(
    netllm, tmp_path
):
    file = tmp_path / "cnn.npz"
    words = ("--setting", "synthetic", "--train", "epochs=2", "hidden=8")
    code, _, err = netllm("train-baseline", "flows", "cnn", *words, "--out", file)
    assert (code, file.is_file()) == (0, True), err
    command = ("test", "flows", "--setting", "synthetic", "--episodes", "4", "--policy")
    code, _, err = netllm(*command, f"cnn:{file}")
    assert code == 0, err
    code, _, err = netllm(*command, "cnn")
    assert code != 0
    assert "netllm train-baseline flows cnn --out" in err


def test_rivals_whose_extra_is_missing_are_left_out(netllm, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as where it is not installed
    code, out, _ = netllm("test", "flows", "--setting", "synthetic", "--episodes", "3", "--json")
    assert code == 0
    document = json.loads(out)
    assert [one["policy"] for one in document["results"]] == ["port"]
    left_out = document["provenance"]["left_out"]["synthetic"]
    assert {*left_out} == {"nearest-neighbours", "gradient-boosting", "cnn"}
    assert "needs scikit-learn" in left_out["gradient-boosting"]


def test_flows_are_served_with_their_fallback(run):
    task = registry.task("flows")
    place = task.setting("synthetic")
    fields = task.observation_fields(place)
    seen = place.of_part("test").observation()
    assert {*fields} == {*seen}
    for name, values in seen.items():
        assert values.shape[1:] == fields[name].shape, name
    answers = registry.policy("flows", task.fallback, place).act(seen)
    assert answers.sum(axis=1) == pytest.approx(np.ones(len(answers)))
