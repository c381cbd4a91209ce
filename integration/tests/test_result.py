import io
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from netllm.report.compare import compare
from netllm.report.report import Report
from netllm.report.result import Result, saved_results, subsets, summarise
from netllm.report.table import sentence, setting_table
from netllm.task import Metric

QOE = Metric("qoe", "QoE")
TASK = SimpleNamespace(
    metrics=(QOE,), bounds=frozenset({"hindsight"}), published=frozenset({"genet"})
)
SPREAD = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def result(name, level, *, checkpoint=False, teachers=(), metrics=(QOE,), wobble=0.0):
    """A made-up result: episode i has `level` plus its own share, the same for every policy."""
    rows = [
        {"id": f"e{i}", "seed": 0, "qoe": level + share + wobble * (-1) ** i}
        for i, share in enumerate(SPREAD)
    ]
    return Result(
        task="abr",
        setting="default",
        policy=None if checkpoint else name,
        checkpoint=name if checkpoint else None,
        metrics=summarise(rows, metrics),
        subsets=subsets(rows, metrics, {"clean": frozenset({"e0", "e1", "e2"})}),
        episodes=rows,
        seconds=2.0,
        decisions_per_s=141.0,
        teachers=teachers,
    )


def comparisons(*results, task=TASK, members=None):
    return compare(results, task, members or {})


def test_the_best_rival_is_the_best_policy_that_cannot_know_the_future():
    found = comparisons(
        result("bba", 1.0),
        result("ppo", 2.0),
        result("hindsight", 9.0),
        result("run", 2.5, checkpoint=True),
    )
    assert [(one.rival, one.role) for one in found] == [("ppo", "best rival")]
    assert found[0].difference.mean == pytest.approx(0.5)
    assert found[0].verdict == "ahead"


def test_the_table_says_plainly_when_the_rival_wins():
    found = comparisons(result("ppo", 2.0), result("run", 1.9, checkpoint=True, wobble=0.01))
    assert found[0].verdict == "behind"
    assert "run LOSES to ppo (best rival): QoE -0.100" in sentence(found[0], (QOE,)).plain


def test_an_interval_that_holds_zero_decides_nothing():
    found = comparisons(result("ppo", 2.0), result("run", 2.01, checkpoint=True, wobble=0.5))
    assert found[0].verdict == "level"


def test_fewer_than_five_episodes_give_no_verdict_and_the_table_says_why():
    members = {"default": {"clean": frozenset({"e0", "e1", "e2"})}}
    found = comparisons(result("ppo", 2.0), result("run", 2.5, checkpoint=True), members=members)
    assert [(one.subset, one.verdict) for one in found] == [("all", "ahead"), ("clean", "none")]
    assert found[1].clusters == {"episode": 3}
    assert sentence(found[1], (QOE,)).plain == (
        "default, clean: run stands beside ppo (best rival): QoE +0.500, "
        "too little for a verdict: 3 episodes, and it takes at least 5."
    )


def test_contenders_of_different_episodes_are_refused():
    short = result("run", 2.5, checkpoint=True)
    short = replace(short, episodes=short.episodes[1:])
    with pytest.raises(ValueError, match=r"same episodes of 'default', but run and ppo.*'e0'"):
        comparisons(result("ppo", 2.0), short)
    other = replace(short, episodes=[{**row, "seed": 1} for row in short.episodes])
    with pytest.raises(ValueError, match="with seed"):
        comparisons(result("ppo", 2.0), other)


def test_less_is_better_where_the_metric_says_so():
    task = SimpleNamespace(
        metrics=(Metric("qoe", "JCT", False),), bounds=frozenset(), published=frozenset()
    )
    found = comparisons(
        result("slow", 3.0), result("fast", 2.0), result("run", 1.0, checkpoint=True), task=task
    )
    assert [(one.rival, one.verdict) for one in found] == [("fast", "ahead")]


def test_a_checkpoint_meets_its_teacher_and_the_other_checkpoints():
    found = comparisons(
        result("bba", 3.0),
        result("ppo", 2.0),
        result("a", 2.5, checkpoint=True, teachers=("ppo",)),
        result("b", 2.4, checkpoint=True),
    )
    assert [(one.checkpoint, one.rival, one.role) for one in found] == [
        ("a", "bba", "best rival"),
        ("a", "ppo", "teacher"),
        ("a", "b", "checkpoint"),
        ("b", "bba", "best rival"),
        ("b", "a", "checkpoint"),
    ]


def test_a_checkpoint_meets_the_papers_rival_even_if_others_are_better():
    found = comparisons(
        result("genet", 1.0), result("ppo", 2.0), result("run", 2.5, checkpoint=True)
    )
    assert [(one.rival, one.role) for one in found] == [
        ("ppo", "best rival"),
        ("genet", "published"),
    ]
    alone = comparisons(result("genet", 1.0), result("run", 2.5, checkpoint=True))
    assert [one.role for one in alone] == ["best rival"]


def test_parts_of_the_test_set_are_compared_on_their_own():
    members = {"default": {"clean": frozenset({"e0", "e1"})}}
    found = comparisons(result("ppo", 2.0), result("run", 2.5, checkpoint=True), members=members)
    assert [one.subset for one in found] == ["all", "clean"]
    assert result("ppo", 2.0).subsets["clean"].episodes == 3
    assert result("ppo", 2.0).subsets["clean"].metrics["qoe"].mean == pytest.approx(2.1)


def report():
    results = [result("ppo", 2.0), result("run", 2.5, checkpoint=True), result("hindsight", 3.0)]
    return Report(
        results=results,
        comparisons=comparisons(*results),
        provenance={"notes": ["made up"]},
        metrics=(QOE,),
        bounds=TASK.bounds,
    )


def test_a_saved_report_is_one_json_document(tmp_path):
    path = report().save(str(tmp_path / "new" / "results.json"))
    document = json.loads(path.read_text())
    assert set(document) == {"results", "comparisons", "provenance"}
    first = document["results"][0]
    assert first["metrics"]["qoe"]["mean"] == pytest.approx(2.25)
    assert len(first["metrics"]["qoe"]["ci95"]) == 2
    assert first["episodes"][0] == {"id": "e0", "seed": 0, "qoe": 2.0}
    assert (first["policy"], first["checkpoint"]) == ("ppo", None)
    assert [path.name for path in path.parent.iterdir()] == ["results.json"]


def test_a_saved_report_gives_its_results_back(tmp_path):
    path = report().save(tmp_path / "results.json")
    assert saved_results(path) == report().results


def test_a_file_that_is_no_report_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"steps": 3}')
    with pytest.raises(ValueError, match=r"other\.json holds no report.*--out FOLDER"):
        saved_results(path)


def damaged(document, change):
    change(document["results"][0])
    return json.dumps(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["metrics"]["qoe"].update(mean="2.25"),
        lambda one: one.update(policy=3),
        lambda one: one["episodes"][0].pop("qoe"),
        lambda one: one["episodes"][1].update(qoe={}),
        lambda one: one["episodes"][1].update(id=None),
        lambda one: one["metrics"]["qoe"].update(ci95=[1.0]),
    ],
    ids=["text-mean", "number-policy", "lost-figure", "no-figure", "no-id", "half-interval"],
)
def test_a_damaged_report_is_refused_by_name(tmp_path, change):
    path = report().save(tmp_path / "results.json")
    path.write_text(damaged(json.loads(path.read_text()), change))
    with pytest.raises(ValueError, match=r"results\.json holds no report"):
        saved_results(path)


def test_a_report_of_absurd_depth_or_numbers_is_refused_by_name(tmp_path):
    path = tmp_path / "results.json"
    for text in ("[" * 200_000, '{"results": ' + "1" * 5000 + "}", '{"results": [NaN]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"results\.json holds no report"):
            saved_results(path)


def test_a_value_that_is_no_number_is_never_written(tmp_path):
    bad = report()
    bad.results[0].episodes[0]["qoe"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        bad.save(tmp_path / "results.json")
    assert not (tmp_path / "results.json").exists()


def test_the_table_lists_the_best_first_and_marks_the_bound():
    table = setting_table("default", report().results, (QOE,), TASK.bounds)
    names = [str(cell) for cell in table.columns[0].cells]
    assert names == ["hindsight (bound)", "run", "ppo"]
    assert str(table.columns[2].header) == "clean (3)"


def test_what_a_policy_knows_beyond_the_observation_stands_beside_its_name():
    seer = replace(result("rollout", 3.0), knows="job profiles")
    run = result("run", 2.0, checkpoint=True, wobble=0.01)
    table = setting_table("default", [seer, run], (QOE,))
    assert str(next(iter(table.columns[0].cells))) == "rollout (knows job profiles)"
    (found,) = comparisons(seer, run)
    assert "LOSES to rollout (best rival, knows job profiles): QoE" in sentence(found, (QOE,)).plain
    document = Report(results=[seer, run], comparisons=[found], provenance={}).document()
    assert [one.get("knows") for one in document["results"]] == ["job profiles", None]
    assert document["comparisons"][0]["knows"] == "job profiles"


def test_a_model_card_gets_the_table_in_markdown():
    text = report().markdown()
    assert "| run | 2.750 [" in text
    assert "run is ahead of ppo" in text
    assert "Note: made up" in text


def test_a_printed_report_is_its_table_and_verdicts_in_plain_text(capsys):
    print(report())
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if "hindsight (bound)" in line]
    assert "default: run is ahead of ppo (best rival): QoE +" in text
    assert text.endswith("Note: made up\n")
    assert "\x1b" not in text
    assert "Result(" not in text


def test_a_printed_report_has_only_signs_that_a_pipe_of_another_encoding_takes(monkeypatch):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", pipe)
    print(report(), flush=True)
    monkeypatch.undo()
    assert b"hindsight (bound)" in pipe.buffer.getvalue()


def test_a_rival_that_is_also_the_teacher_is_told_of_once():
    run = result("run", 2.5, checkpoint=True, teachers=("ppo",), wobble=0.01)
    results = [result("ppo", 2.0), result("bba", 1.0), run]
    both = Report(results=results, comparisons=comparisons(*results), provenance={}, metrics=(QOE,))
    assert [one.role for one in both.comparisons] == ["best rival", "teacher"]
    for text in (str(both), both.markdown()):
        assert text.count("run is ahead of ppo") == 1
        assert "run is ahead of ppo (best rival and teacher): QoE +" in text


def test_a_notebook_shows_a_report_as_markdown():
    assert report()._repr_markdown_() == report().markdown()


def test_the_share_of_valid_answers_stands_in_table_and_document_where_it_is_counted(tmp_path):
    said = replace(result("said", 1.0), validity=0.0)
    results = [result("ppo", 2.0), said]
    table = setting_table("default", results, (QOE,))
    valid = next(column for column in table.columns if str(column.header) == "valid")
    assert list(valid.cells) == ["", "0.0%"]
    path = Report(results=results, comparisons=[], provenance={}, metrics=(QOE,)).save(
        tmp_path / "results.json"
    )
    assert [one.get("validity") for one in json.loads(path.read_text())["results"]] == [None, 0.0]
    assert saved_results(path) == results
    assert "valid" not in [
        str(column.header) for column in setting_table("d", results[:1], (QOE,)).columns
    ]


def test_the_interval_of_a_share_is_cut_to_what_it_can_be():
    rows = [{"id": f"{i}", "loss": 0.0, "f1": value} for i, value in enumerate((1, 1, 1, 1, 0.2))]
    shares = [Metric("f1", "F1", share=True), Metric("loss", "loss", share=True)]
    f1, loss = summarise(rows, shares).values()
    (whole,) = summarise(rows, [Metric("f1", "F1")]).values()
    assert whole.ci95[1] > 1
    assert f1.ci95 == (whole.ci95[0], 1.0)
    assert loss.ci95 == (0.0, 0.0)
