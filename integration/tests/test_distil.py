"""A small network learns to answer as an adapted model does."""

from __future__ import annotations

import json
import shutil

import netllm
import numpy as np
import pytest
from netllm import registry
from netllm.abr.student import Student
from netllm.deciders.policy_spec import PolicySpec
from netllm.serve.build_seats import build_seats
from netllm.verbs.distilling.states import Asked, read
from netllm_adapt.training.run_folder import read_log

FEW = {"setting": "synthetic", "set": {"chunks": 8}}
SHORT = {"rounds": 2, "episodes": 6, "validation": 4, "most_asked": 0.5}
FOUR_STEPS = {"steps": 2, "batch": 2, "validate_every": 2, "validation": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The run of a tiny model of abr."""
    folder = tmp_path_factory.mktemp("begun")
    netllm.rl_collect("abr", policy="ppo", relabel="ppo", episodes=3, out=folder / "pool", **FEW)
    tiny = {"backbone": "tiny-random", "window": 4, "segment": 64, "rank": 2, "alpha": 4.0}
    netllm.adapt("abr", pool=folder / "pool", out=folder / "run", **FOUR_STEPS, **tiny)
    return folder / "run"


@pytest.fixture(scope="module")
def distilled(model, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("distilled") / "student"
    return netllm.distil("abr", checkpoint=model, out=out, **SHORT)


def weights(file):
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays if name != "meta"}


def test_each_round_learns_from_the_states_of_all_rounds(distilled):
    first, second = read_log(distilled.file.parent)
    per_round = 6 * 7
    assert [first["step"], second["step"]] == [per_round, 2 * per_round]
    assert all(line["validation"].keys() >= {"qoe", "rebuffer_s"} for line in (first, second))


def test_the_round_that_validates_best_is_kept_and_told_beside_the_model(model, distilled):
    scores = [line["validation"]["qoe"] for line in read_log(distilled.file.parent)]
    kept = 1 + scores.index(max(scores))
    assert distilled.about["round"] == kept
    assert distilled.about["validation"]["qoe"] == max(scores)
    source = distilled.file.with_name(f"round-{kept}.npz")
    for name, array in weights(distilled.file).items():
        np.testing.assert_array_equal(array, weights(source)[name])
    task = registry.task("abr")
    place = task.setting("synthetic", chunks=8)
    episodes = task.episodes(place, "valid", count=4, seed=1)
    specs = {
        "validation": PolicySpec("abr", policy=f"student:{distilled.file}"),
        "model": PolicySpec("abr", checkpoint=str(model)),
    }
    for part, spec in specs.items():
        rows = task.rollout(spec.build(place), place, episodes, seed=1).rows
        mean = np.mean([row["qoe"] for row in rows])
        assert mean == pytest.approx(distilled.about[part]["qoe"], abs=1e-9)


def test_a_student_learns_the_answers_of_its_model(model, tmp_path):
    more = {**SHORT, "rounds": 3, "episodes": 24}
    student = netllm.distil("abr", checkpoint=model, out=tmp_path / "student", **more)
    task = registry.task("abr")
    place = task.setting("synthetic", chunks=8)
    episodes = task.episodes(place, "valid", count=16, seed=5)
    own = Student(place, weights=student.file)
    asked = Asked(PolicySpec("abr", checkpoint=str(model)).build(place), own)
    task.rollout(asked, place, episodes, seed=0)
    wanted = np.concatenate(asked.wanted)
    answers = np.concatenate([own.probabilities(seen) for seen in asked.seen])
    untrained = np.full_like(wanted, 1 / wanted.shape[1])
    assert abs(answers - wanted).mean() < 0.3 * abs(untrained - wanted).mean()


def test_the_file_is_small_and_tells_what_it_was_made_of(distilled):
    assert distilled.file.stat().st_size < 1_000_000
    told = Student(registry.task("abr").setting("synthetic"), weights=distilled.file).actor.meta
    assert told == json.loads(distilled.file.with_name("student.json").read_text())
    assert (told["task"], told["of"], told["setting"]) == ("abr", "run", "synthetic")
    assert told["overrides"] == {"chunks": 8}


def test_a_run_that_is_cut_off_gives_what_an_undisturbed_one_gives(model, distilled, tmp_path):
    out = tmp_path / "student"
    netllm.distil("abr", checkpoint=model, out=out, **{**SHORT, "rounds": 1})
    (out / "log.jsonl").unlink()  # as if it ended after the model was asked
    asked = (out / "states-1.safetensors").stat().st_mtime_ns
    again = netllm.distil("abr", checkpoint=model, out=out, resume=True, **SHORT)
    assert (out / "states-1.safetensors").stat().st_mtime_ns == asked
    for name, array in weights(distilled.file).items():
        np.testing.assert_array_equal(array, weights(again.file)[name])
    before = again.file.stat().st_mtime_ns
    netllm.distil("abr", checkpoint=model, out=out, resume=True, **SHORT)
    assert again.file.stat().st_mtime_ns == before


def test_the_model_is_asked_in_the_states_that_the_student_visits(distilled):
    task = registry.task("abr")
    place = task.setting("synthetic", chunks=8)
    seen, wanted = read([distilled.file.with_name("states-2.safetensors")])
    np.testing.assert_allclose(wanted.sum(1), 1, atol=1e-5)
    levels = seen["level"].reshape(7, 6)
    drawn = Student(place, weights=distilled.file.with_name("round-1.npz"), sample=True)
    seed = np.random.SeedSequence((0, 2)).generate_state(1)[0]
    asked = Asked(drawn, drawn)
    episodes = task.episodes(place, "train", count=6, seed=int(seed))
    task.rollout(asked, place, episodes, seed=int(seed))
    np.testing.assert_array_equal(levels, np.stack([one["level"] for one in asked.seen]))


def test_wrong_arguments_are_refused_before_anything_is_played(model, distilled, tmp_path):
    given = {"checkpoint": model, "out": tmp_path / "out"}
    with pytest.raises(ValueError, match=r"cjs has no student.* abr, vp do"):
        netllm.distil("cjs", **given)
    with pytest.raises(ValueError, match="`most_asked` must be above 0"):
        netllm.distil("abr", most_asked=0.0, **given)
    with pytest.raises(ValueError, match="`rounds` must be at least 1"):
        netllm.distil("abr", rounds=0, **given)
    with pytest.raises(ValueError, match="already holds a run"):
        netllm.distil("abr", checkpoint=model, out=distilled.file.parent, **SHORT)
    with pytest.raises(ValueError, match="begun with episodes=6"):
        netllm.distil(
            "abr", checkpoint=model, out=distilled.file.parent, resume=True, rounds=2, episodes=5
        )
    shutil.copytree(model, tmp_path / "run")
    with pytest.raises(FileExistsError, match="a run of `netllm distil`"):
        netllm.distil("abr", checkpoint=model, out=tmp_path / "run", resume=True)
    assert not (tmp_path / "out").exists()


def test_a_student_without_its_file_says_how_one_is_made(netllm):
    code, _, err = netllm("test", "abr", "--policy", "student", "--setting", "synthetic")
    assert code == 2
    assert "netllm distil abr" in err


def test_the_command_says_how_the_student_is_tested(model, netllm, tmp_path):
    out = tmp_path / "student"
    options = ["--rounds", 1, "--episodes", 2, "--validation", 2, "--out", out]
    code, said, _ = netllm("distil", "abr", "--checkpoint", model, *options)
    assert code == 0
    assert f"netllm test abr --policy student:{out / 'student.npz'}" in " ".join(said.split())
    assert (out / "recipe.toml").exists()
    few = ["--setting", "synthetic", "--episodes", 2, "--json"]
    code, said, _ = netllm("test", "abr", "--policy", f"student:{out / 'student.npz'}", *few)
    assert code == 0
    (result,) = json.loads(said)["results"]
    assert result["policy"] == f"student:{out / 'student.npz'}"


@pytest.fixture
def behind(model, distilled, tmp_path):
    """A test of student, model, and the model behind its student; its folder."""

    def run(*thresholds):
        report = netllm.test(
            "abr",
            policy=f"student:{distilled.file}",
            checkpoint=model,
            student=distilled.file,
            when_unsure=thresholds,
            episodes=6,
            **FEW,
        )
        return {one.label: one for one in report.results}, report

    return run


def test_a_model_behind_a_student_is_asked_never_sometimes_or_always(behind, distilled):
    results, report = behind(0.0, 0.4, 1.01)
    names = ["run when unsure below 0", "run when unsure below 0.4", "run when unsure below 1.01"]
    never, sometimes, always = (results[name] for name in names)
    assert [never.asked, always.asked] == [0.0, 1.0]
    assert 0 < sometimes.asked < 1
    alone = results[f"student:{distilled.file}"]
    for one, same in ((never, alone), (always, results["run"])):
        assert [row["qoe"] for row in one.episodes] == [row["qoe"] for row in same.episodes]
    roles = {(one.checkpoint, one.rival) for one in report.comparisons if one.role == "checkpoint"}
    assert roles == {(name, "run") for name in names}


def test_the_threshold_is_that_of_the_file_unless_given(behind, distilled):
    results, _ = behind()
    (both,) = (one for one in results.values() if one.student)
    assert both.when_unsure == distilled.about["when_unsure"]
    assert both.document()["student"] == str(distilled.file)
    chosen = [one for one in distilled.about["unsure"] if one["asked"] <= 0.5]
    assert max(one["when_unsure"] for one in chosen) == distilled.about["when_unsure"]


def test_the_report_has_a_plot_of_quality_by_the_share_asked(netllm, model, distilled, tmp_path):
    given = ["--checkpoint", model, "--student", distilled.file, "--when-unsure", 0.3, 0.5]
    few = ["--setting", "synthetic", "--episodes", 2, "--out", tmp_path / "report"]
    code, said, _ = netllm("test", "abr", *given, *few)
    assert code == 0
    assert "asked" in said
    assert (tmp_path / "report" / "asked.png").stat().st_size > 1000
    results = json.loads((tmp_path / "report" / "results.json").read_text())["results"]
    assert [one.get("when_unsure") for one in results] == [None, 0.3, 0.5]


def test_a_student_that_cannot_ask_is_refused(model, distilled):
    with pytest.raises(ValueError, match="needs the checkpoint that it asks"):
        netllm.test("abr", policy="bba", student=distilled.file, **FEW)
    with pytest.raises(ValueError, match="needs a student"):
        netllm.test("abr", checkpoint=model, when_unsure=0.5, **FEW)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        netllm.test("abr", checkpoint=model, student=distilled.file, when_unsure=-1.0, **FEW)
    first = distilled.file.with_name("round-1.npz")
    with pytest.raises(ValueError, match="does not tell when the student is unsure"):
        netllm.test("abr", checkpoint=model, student=first, **FEW)


def test_a_server_puts_a_student_before_its_model(model, distilled):
    student = {"abr": str(distilled.file)}
    seat = build_seats({"abr": str(model)}, settings={}, fallbacks={}, students=student)["abr"]
    assert seat.about["student"] == student["abr"]
    assert seat.about["when_unsure"] == distilled.about["when_unsure"]
    given = {"students": student, "when_unsure": {"abr": 0.25}}
    seat = build_seats({"abr": str(model)}, settings={}, fallbacks={}, **given)["abr"]
    assert seat.about["when_unsure"] == 0.25


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """The run of a tiny model of vp."""
    out = tmp_path_factory.mktemp("vp") / "run"
    tiny = {"backbone": "tiny-random", "rank": 2, "batch": 32, "micro_batch": 32}
    netllm.adapt("vp", out=out, setting="synthetic", steps=20, validate_every=20, **tiny)
    return out


def test_a_student_of_viewports_learns_what_the_model_predicts(predictor, tmp_path):
    few = {"rounds": 2, "episodes": 2, "validation": 2}
    student = netllm.distil("vp", checkpoint=predictor, out=tmp_path / "student", **few)
    first, second = (line["error"] for line in read_log(student.file.parent))
    assert second < first
    assert student.file.stat().st_size < 1_000_000
    assert "when_unsure" not in student.about
    named = {"policy": f"student:{student.file}", "setting": "synthetic", "part": "valid"}
    (result,) = netllm.test("vp", episodes=2, **named).results
    assert result.metrics["mae_deg"].mean > 0
    with pytest.raises(ValueError, match="Only a student that gives probabilities can be unsure"):
        netllm.test("vp", checkpoint=predictor, student=student.file, when_unsure=0.5)
    named, of_vp = {"vp": str(student.file)}, {"vp": str(predictor)}
    with pytest.raises(ValueError, match="Only a student that gives probabilities can be unsure"):
        build_seats(of_vp, settings={}, fallbacks={}, students=named)
    with pytest.raises(ValueError, match="sees a viewer's own last points and nothing else"):
        netllm.distil("vp", checkpoint=predictor, out=tmp_path / "x", set={"memory": 5}, **few)
