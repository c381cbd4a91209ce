"""Explanations: what moved a decision, what would have changed it, and a tree that imitates it."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from functools import cache

import netllm
import numpy as np
import pytest
import torch
from netllm import registry
from netllm.explaining.attention import attention
from netllm.explaining.attributions import attribution
from netllm.explaining.decision import Decision, Decisions
from netllm.explaining.explainer import Explainer
from netllm.explaining.recorded import record
from netllm.explaining.rule_tree import Examples, rule_tree
from netllm.explaining.sweeps import sweep
from netllm.task.build_model import build_model
from netllm.vp import VP
from netllm.vp.standing_still import standing_still
from netllm_heads import Categorical

pytest.importorskip("captum", reason="the extra `explain`")
pytest.importorskip("sklearn", reason="the extra `explain`")

TASKS = registry.tasks()
FEW = {"decisions": 3, "episodes": 3}
PLOTS = {"fields.png", "ago.png", "attention.png", "sweeps.png"}


SMALL = {"cc": {"intervals": 20}, "cjs": {"num_jobs": 4, "num_executors": 6}}


def smooth(name, **recipe):
    """A model whose answers vary, but not wildly along a line, and its task and setting."""
    task = registry.task(name)
    setting = task.setting("synthetic", **SMALL.get(name, {}))
    usual = replace(task.recipe("tiny-random"), dtype="float32", **recipe)
    model = build_model(task, setting, "tiny-random", usual).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return task, setting, model


def played(task, setting, model):
    """The model with three episodes that it played."""
    return Explainer(task, model, setting, task.episodes(setting, "test", seed=0)[:3], seed=0)


@pytest.fixture(scope="module")
def explainers():
    """By task a model with three episodes that it played."""
    return cache(lambda name: played(*smooth(name)))


@pytest.fixture(scope="module")
def checkpoint(varied, tmp_path_factory):
    """The folder of a checkpoint of abr."""
    _, _, model = varied("abr")
    folder = tmp_path_factory.mktemp("explained") / "checkpoint"
    return copy.deepcopy(model).save_pretrained(folder)


def middle(explainer):
    """A decision in the middle of an episode, beside the neutral one."""
    decisions = explainer.decisions(1)
    return explainer.contrast(decisions[len(decisions) // 2])


@pytest.mark.parametrize("name", TASKS)
def test_attributions_sum_to_what_the_answer_differs_by_from_the_neutral_one(explainers, name):
    explainer = explainers(name)
    contrast = middle(explainer)
    found = attribution(contrast, explainer.parts, points=32)
    whole = contrast.value(contrast.answer) - contrast.value(contrast.neutral_answer)
    shares = sum(found.totals.values())
    size = sum(abs(one) for one in found.totals.values())
    assert size > 1e-4
    assert shares == pytest.approx(float(whole), abs=0.01 * size)
    assert found.left_over == pytest.approx(float(whole) - shares, abs=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_decision_seen_alone_is_answered_as_in_the_stream(explainers, name):
    explainer = explainers(name)
    recorded, decisions = explainer.recorded[2], explainer.decisions(2)
    for step in (0, len(decisions) // 2, len(decisions) - 1):
        contrast = explainer.contrast(decisions[step])
        if explainer.task.supervised:
            seen = explainer.model.head.answer(
                decisions[step].hidden(decisions[step].numbers), decisions[step].observation
            )
            torch.testing.assert_close(seen[0], recorded.answers[0][step], atol=1e-3, rtol=0)
            continue
        told = int(recorded.answers[step].flatten()[0])
        assert contrast.chosen == told % contrast.answer.shape[1]


@pytest.fixture(scope="module")
def short():
    """A model of abr with one block, whose segments are shorter than an episode."""
    return played(*smooth("abr", window=3, segment=64, layers=1))


def test_contexts_are_cut_as_a_stream_cuts_them(short):
    decisions = short.decisions(0)
    assert [decisions[k].steps for k in (0, 7, 8, 15, 16)] == [1, 8, 4, 11, 4]
    for step, answer in enumerate(short.recorded[0].answers):
        assert short.contrast(decisions[step]).chosen == int(answer)


def test_attention_is_shared_out_within_the_window(short):
    decision = short.decisions(0)[7]
    found = attention(decision)
    assert found.shape == (1, 8)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (found[:, :3] > 0).all()
    assert (found[:, 3:] == 0).all()
    assert short.model.backbone.config._attn_implementation == "sdpa"


@pytest.fixture(scope="module")
def planted():
    """A model of abr that sees nothing but the buffer."""
    task, setting, model = smooth("abr")
    encoders = dict(zip(model.encoder.fields, model.encoder.field_encoders, strict=True))
    others = [encoders[name] for name in encoders if name != "buffer_s"]
    with torch.no_grad():
        for encoder in (*others, model.encoder.return_encoder):
            for parameter in encoder.parameters():
                parameter.zero_()
    return played(task, setting, model)


def test_the_one_field_that_a_model_depends_on_is_found(planted):
    contrast = middle(planted)
    found = attribution(contrast, planted.parts)
    assert found.ranked()[0] == "buffer_s"
    assert all(found.totals[name] == 0 for name in found.totals if name != "buffer_s")
    buffer = [part for part in planted.parts if part.name == "buffer_s"]
    others = [part for part in planted.parts if part.name != "buffer_s"]
    with torch.no_grad():
        masked = [contrast.answers(contrast.masked(some)) for some in (buffer, others)]
    assert float(contrast.distance(masked[0])) > 1e-6
    assert float(contrast.distance(masked[1])) == 0


def test_a_sweep_passes_through_what_was_seen_and_tells_where_the_answer_turns(planted):
    contrast = middle(planted)
    part = next(part for part in planted.parts if part.name == "buffer_s")
    actual = float(part.of(contrast.told)[0, -1, 0])
    found = sweep(contrast, part, np.array([0.0, actual, 60.0]))
    assert found.values.tolist() == [0.0, actual, 60.0]
    np.testing.assert_allclose(found.answers[1], contrast.answer[0], atol=1e-5)
    best = found.answers.argmax(1)
    assert found.turns() == [v for v, k in zip(found.values, best, strict=True) if k != best[1]]
    other = next(part for part in planted.parts if part.name == "throughput_mbps")
    found = sweep(contrast, other, np.array([0.0, 5.0]))
    assert found.factors
    assert found.turns() == []


def test_a_sweep_leaves_earlier_steps_as_they_were(short):
    contrast = short.contrast(short.decisions(0)[5])
    part = next(part for part in short.parts if part.name == "buffer_s")
    with torch.no_grad():
        fields = dict(contrast.told)
        fields["buffer_s"] = fields["buffer_s"].clone()
        fields["buffer_s"][0, -1] = 33.0
        wanted = contrast.answers(fields)[0]
    found = sweep(contrast, part, np.array([33.0, 20.0]))
    np.testing.assert_allclose(found.answers[1], wanted, atol=1e-5)


def test_a_predictor_may_choose_among_answers():
    _, setting, model = smooth("vp")
    model.head = Categorical(width=model.head.width, answers=3).eval()
    angles = torch.randn(1, setting.history, 3)
    decision = Decision(model, {"viewport_deg": angles}, step=0)
    with torch.no_grad():
        answers = decision.answers(decision.hidden(decision.numbers), decision.numbers)
    assert answers.shape == (1, 3)
    assert float(answers.sum()) == pytest.approx(1)


def test_what_the_head_reads_itself_is_attributed_too(explainers):
    explainer = explainers("cjs")
    steps = explainer.decisions(0)[::4]
    advised = [part for part in explainer.parts if part.name == "stages.advised"]
    added = []
    for contrast in map(explainer.contrast, steps):
        with torch.no_grad():
            answers = [
                contrast.decision.answers(contrast.hidden_neutral, fields)
                for fields in (contrast.told, contrast.masked(advised))
            ]
        added.append(float(contrast.value(answers[0] - answers[1])))
    largest = int(np.argmax(np.abs(added)))
    assert abs(added[largest]) > 1e-2
    found = attribution(explainer.contrast(steps[largest]), advised)
    gradients = found.totals["stages.advised"] - added[largest]
    assert abs(gradients) < abs(added[largest])


def test_tables_are_told_apart_by_column_and_indices_are_left_out(explainers):
    names = [part.name for part in explainers("cjs").parts]
    assert {"stages.demand", "stages.advised", "jobs.age_ms", "return_to_go"} <= {*names}
    assert not {"edges", "stage_job", "schedulable", "executors"} & {*names}
    assert [part.name for part in explainers("vp").parts] == [
        f"viewport_deg.{angle}" for angle in ("roll", "pitch", "yaw")
    ]
    assert "level" not in [part.name for part in explainers("abr").parts]


def test_heads_that_stand_still_across_the_seam_are_the_neutral_ones():
    yaws = torch.tensor([170.0, 179.0, -178.0])
    angles = torch.stack([torch.zeros(3), torch.ones(3), yaws], 1)[None]
    told, neutral = standing_still({"viewport_deg": angles})
    assert told["viewport_deg"][0, :, 2].tolist() == [-190.0, -181.0, -178.0]
    assert neutral["viewport_deg"][0, :, 2].tolist() == [-178.0] * 3


def test_a_planted_rule_is_learned_and_measured_on_other_episodes():
    draw = np.random.default_rng(0)
    table = draw.uniform(size=(400, 3))
    wanted = (table[:, 1] > 0.4) * 2 + (table[:, 2] > 0.7)
    half = [
        Examples(("a", "b", "c"), table[some], wanted[some], np.arange(200))
        for some in (slice(0, 200), slice(200, None))
    ]
    tree = rule_tree(*half, "answers", depth=3, seed=0)
    values, counts = np.unique(wanted[:200], return_counts=True)
    assert tree.fidelity > 0.95
    assert tree.rival == (wanted[200:] == values[counts.argmax()]).mean()
    assert "b <= 0.4" in tree.text()
    assert "a " not in tree.text().replace("value", "")


def test_a_tree_of_candidates_names_the_one_that_was_chosen():
    draw = np.random.default_rng(0)
    decision = np.repeat(np.arange(100), 4)
    table = draw.uniform(size=(400, 2))
    wanted = np.concatenate([own[:, 0] == own[:, 0].max() for own in np.split(table, 100)]) * 1
    half = [
        Examples(("a", "b"), table[some], wanted[some], decision[some])
        for some in (slice(0, 200), slice(200, None))
    ]
    tree = rule_tree(*half, "candidates", depth=4, seed=0)
    assert (tree.fitted, tree.held_out) == (50, 50)
    assert tree.fidelity > 0.6 > tree.rival


@pytest.mark.parametrize("name", TASKS)
def test_a_tree_imitates_the_decisions_of_every_task(explainers, name):
    tree = explainers(name).rule_tree(depth=3, seed=0)
    assert tree.kind == {"cjs": "candidates", "vp": "numbers"}.get(name, "answers")
    counts = [len(explainers(name).decisions(k)) for k in range(3)]
    assert [tree.fitted, tree.held_out] == [sum(counts[:2]), counts[2]]
    assert tree.fidelity <= 1
    assert all(name.partition("[")[0] for name in tree.names)


def test_episodes_are_recorded_side_by_side_as_alone(varied):
    task, setting, model = varied("cjs")
    episodes = task.episodes(setting, "test", seed=0)[:2]
    both = record(task, model, setting, episodes, seed=0)
    for one, episode in zip(both, episodes, strict=True):
        (alone,) = record(task, model, setting, [episode], seed=0)
        assert len(Decisions(model, one)) == len(alone.answers) == len(alone.taken) + 1
        for mine, yours in zip(one.answers, alone.answers, strict=True):
            assert mine.tolist() == yours.tolist()
    assert not {"observe", "act"} & vars(model.encoder).keys()
    assert "answer" not in vars(model.head)


@pytest.mark.parametrize("name", TASKS)
def test_an_explanation_is_a_document_and_plots(varied, name, tmp_path, netllm):
    _, _, model = varied(name)
    folder = copy.deepcopy(model).save_pretrained(tmp_path / "checkpoint")
    out = tmp_path / "out"
    given = ("--checkpoint", folder, "--episode", "1", "--out", out, "--decisions", 2)
    code, told, err = netllm("explain", name, *given, "--episodes", 2)
    assert code == 0, err
    document = json.loads((out / "explanation.json").read_text())
    assert {path.name for path in out.iterdir()} == PLOTS | {
        *("explanation.json", "rules.txt", "recipe.toml")
    }
    assert "A rule tree" in told
    for field in document["sizes"]:
        assert field in told
    for decision in document["decisions"]:
        totals = {field: sum(own) for field, own in decision["by_ago"].items()}
        assert totals == pytest.approx(decision["attributions"])
        missed = decision["value"] - decision["neutral"] - sum(totals.values())
        assert missed == pytest.approx(decision["left_over"], abs=1e-6)
    assert sum(document["attention"]["mean"]) == pytest.approx(1, abs=1e-4)
    assert {one["part"] for one in document["sweeps"]} <= {*document["sizes"]}


def test_a_decision_is_named_and_an_explanation_replaced(checkpoint, tmp_path):
    given = {"checkpoint": checkpoint, "out": tmp_path, **FEW}
    first = netllm.explain("abr", episode="0", **given)
    steps = [one.step for one in first.decisions]
    assert steps == [0, 23, 46]
    values = {one.step: one.value for one in first.decisions}
    assert first.step == min(values, key=values.get)
    again = netllm.explain("abr", episode=first.about["episode"], step=5, **given)
    assert again.step == 5
    assert [one.step for one in again.decisions] == [0, 5, 23, 46]
    assert json.loads((tmp_path / "explanation.json").read_text()) == again.document()


def test_an_unknown_episode_or_step_is_refused_with_some_that_are_there(checkpoint, tmp_path):
    task = registry.task("abr")
    ids = [one.id for one in task.episodes(task.setting("synthetic"), "test", seed=100_003)]
    given = {"checkpoint": checkpoint, "out": tmp_path / "out"}
    for wrong in ("nobody", str(len(ids)), "-1"):
        with pytest.raises(ValueError, match=rf"such as {ids[0]}.*0 to {len(ids) - 1}, got"):
            netllm.explain("abr", episode=wrong, **given)
    with pytest.raises(ValueError, match="`step` must be one of the 47 decisions"):
        netllm.explain("abr", episode="0", step=47, **FEW, **given)
    with pytest.raises(ValueError, match="`episodes` must be at least 2"):
        netllm.explain("abr", episode="0", episodes=1, **given)
    with pytest.raises(ValueError, match="`decisions` must be at least 1"):
        netllm.explain("abr", episode="0", decisions=0, **given)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_no_folder_is_refused_before_anything_is_played(checkpoint, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        netllm.explain("abr", checkpoint=checkpoint, episode="0", out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_missing_extra_says_what_installs_it(checkpoint, tmp_path, monkeypatch, netllm):
    for module in ("captum", "sklearn"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            given = ("--checkpoint", checkpoint, "--episode", 0, "--out", tmp_path / "out")
            code, _, err = netllm("explain", "abr", *given)
        assert code == 2
        assert "pip install './integration[explain]'" in err


class ByRule(VP):
    """A task whose policy does not ask the model."""

    def policy(self, model, setting):
        return registry.policy("vp", "hold-last", setting)


def test_a_model_that_is_not_asked_cannot_be_explained(varied):
    _, setting, model = varied("vp")
    task = ByRule()
    with pytest.raises(ValueError, match="must answer in one pass"):
        record(task, model, setting, task.episodes(setting, "test")[:1], seed=0)
