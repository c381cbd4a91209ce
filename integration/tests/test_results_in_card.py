"""Results of a test in a checkpoint's own model card."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from netllm.deciders.policy_spec import PolicySpec
from netllm.report.intervals import Estimate
from netllm.report.metric import Metric
from netllm.report.report import Report
from netllm.report.result import Result
from netllm.report.results_in_card import with_results, write_results
from netllm.verbs.test import own_cards

QOE = Metric("qoe", "QoE")
CARD = "---\nlibrary_name: netllm\nlicense: mit\n---\n\n# Mine\n\nWords of my own.\n"
SMALL = [
    *("--backbone", "tiny-random", "--steps", "2", "--batch", "2", "--layers", "1", "--rank", "2"),
    *("--dtype", "float32", "--validate-every", "2", "--validation", "2"),
]


def report(mean=1.0, *, setting="default", part="test", overrides=()):
    rows = [{"id": "e", "seed": 0, "qoe": mean}]
    results = [
        Result("abr", setting, policy, checkpoint, {"qoe": Estimate(mean, None)}, rows, 1.0, 9.0)
        for policy, checkpoint in (("bba", None), (None, "run"))
    ]
    made = {
        "part": part,
        "overrides": dict(overrides),
        "seeds": {setting: [3]},
        "made_at": "yesterday",
    }
    return Report(results, [], made | {"made_at": "yesterday"}, (QOE,))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run of abr."""
    from netllm.cli import main

    out = tmp_path_factory.mktemp("card")
    collect = ["rl-collect", "abr", "--policy", "bba", "--setting", "synthetic"]
    learn = ["adapt", "abr", "--pool", str(out / "pool"), "--out", str(out / "run"), *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NETLLM_DATA", raising=False)
        assert main([*collect, "--episodes", "4", "--out", str(out / "pool")]) == 0
        assert main(learn) == 0
    return out / "run"


def test_a_test_of_ones_own_checkpoint_is_told_in_its_card_and_the_checkpoint_loads(
    netllm, run, tmp_path
):
    own = shutil.copytree(run, tmp_path / "run")
    card = own / "best" / "README.md"
    before = ModelCard.load(card)
    test = ("test", "abr", "--policy", "bba", "--episodes", "2", "--checkpoint", own)
    for _ in range(2):
        code, _, err = netllm(*test, "--update-card")
        assert code == 0, err
    text = card.read_text()
    assert text.count("## Test results, synthetic test") == 1
    assert "| bba |" in text
    assert text.startswith("---\n")
    assert before.text.strip() in text
    figures = ModelCard.load(card).data.eval_results
    assert {(one.dataset_type, one.metric_type) for one in figures} >= {("synthetic test", "qoe")}
    assert len(figures) == len(before.data.eval_results) + 4
    code, _, err = netllm(*test)
    assert code == 0, err
    assert card.read_text() == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--checkpoint", "pretrained"), "pretrained is shipped with netllm"),
        (("--policy", "bba"), "name one with --checkpoint"),
    ],
    ids=["shipped", "none"],
)
def test_only_a_card_of_ones_own_is_updated(netllm, words, told):
    code, _, err = netllm("test", "abr", *words, "--setting", "synthetic", "--update-card")
    assert code == 2
    assert told in err


def test_a_card_on_the_hub_is_not_updated(tmp_path):
    spec = PolicySpec("abr", checkpoint="owner/name", folder=tmp_path)
    with pytest.raises(ValueError, match="owner/name lies on the model hub"):
        own_cards([spec])


def test_a_card_that_cannot_be_written_is_told_before_the_test(netllm, run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    card = own / "best" / "README.md"
    card.unlink()
    card.mkdir()
    code, _, err = netllm("test", "abr", "--checkpoint", own, "--update-card")
    assert code == 2
    assert f"{card} must be a file" in err
    assert "test:" not in err


@pytest.fixture
def card(tmp_path, monkeypatch):
    """The card of the checkpoint `run` in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "README.md"
    file.write_text(CARD)
    return file


def test_results_of_the_same_setting_are_replaced_and_all_else_stays(card):
    write_results(card, report(1.0), command="netllm test abr")
    card.write_text(card.read_text() + "\nMore words.\n")
    write_results(card, report(2.0))
    text = card.read_text()
    assert "Words of my own." in text
    assert "More words." in text
    assert "license: mit" in text
    assert "| run | 2.000 |" in text
    assert "1.000" not in text
    assert "yesterday" not in text
    (figure,) = ModelCard(text).data.eval_results
    assert (figure.metric_value, figure.dataset_split) == (2.0, "test")


def test_other_settings_parts_and_overrides_have_sections_of_their_own():
    text = CARD
    for own in (
        report(),
        report(setting="synthetic"),
        report(part="valid"),
        report(overrides=[("latency_s", 0.1)]),
    ):
        text = with_results(text, own)
    assert text.count(": begin -->") == text.count(": end -->") == 4
    assert "## Test results, default test latency_s=0.1" in text
    assert len(ModelCard(text).data.eval_results) == 4


def test_the_same_report_gives_the_same_card():
    once = with_results(CARD, report(), command="netllm test abr")
    assert with_results(once, report(), command="netllm test abr") == once


def test_a_missing_card_is_made(tmp_path):
    write_results(tmp_path / "README.md", report())
    assert "| run | 1.000 |" in (tmp_path / "README.md").read_text()


def test_front_matter_that_cannot_be_read_names_the_card(card):
    card.write_text("---\n{ [\n---\n\n# Mine\n")
    with pytest.raises(ValueError, match=r"README.md: its front matter must be"):
        write_results(card, report())


def test_figures_are_those_of_the_checkpoint_in_the_cards_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two = report()
    other = Result(
        "abr", "default", None, "other", {"qoe": Estimate(7.0, None)}, two.results[0].episodes, 1, 9
    )
    whole = Report([*two.results, other], [], two.provenance, (QOE,))
    text = with_results(CARD, whole, folder=Path("run", "best"))
    assert [one.metric_value for one in ModelCard(text).data.eval_results] == [1.0]
    assert "| other | 7.000 |" in text
