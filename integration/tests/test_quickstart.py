import json

import pytest
from netllm.quickstart import TEACHER, quick, quickstart
from netllm_adapt import AdaptedModel, Recipe

RECIPE = Recipe(steps=2, batch=2, layers=1, dtype="float32", rank=2, validate_every=2)


def run(out):
    return quickstart(out=out, backbone="tiny-random", episodes=4, recipe=RECIPE)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A first run: its folder and its report."""
    out = tmp_path_factory.mktemp("quickstart") / "run"
    return out, run(out)


def test_the_quickstart_of_abr_writes_results_plots_card_and_checkpoint(first):
    out, report = first
    names = {path.name for path in out.iterdir()}
    assert {"results.json", "cdf.png", "bars.png", "README.md", "checkpoint", "pool"} <= names
    assert AdaptedModel.from_pretrained(out / "checkpoint").spec.name == "tiny-random"
    document = json.loads((out / "results.json").read_text())
    policies = {result["policy"] for result in document["results"]}
    assert {"bba", "mpc", TEACHER, "hindsight", None} <= policies
    teachers = [one.rival for one in report.comparisons if one.role == "teacher"]
    assert teachers == [TEACHER]
    card = (out / "README.md").read_text()
    assert "base_model: tiny-random" in card
    assert "| ppo |" in card
    assert "![QoE per episode](cdf.png)" in card


def test_a_quickstart_goes_on_where_it_was_cut_off(first, capsys):
    out, _ = first
    log = (out / "run" / "log.jsonl").read_text()
    run(out)
    assert (out / "run" / "log.jsonl").read_text() == log
    assert "collect: " not in capsys.readouterr().err


def test_the_quick_recipe_is_shorter_than_the_best():
    from netllm.abr import ABR

    best, short = ABR().recipe("smollm2-135m"), quick("smollm2-135m")
    assert short.layers * short.steps * short.batch < best.layers * best.steps * best.batch / 4
    assert quick("tiny-random").layers is None
