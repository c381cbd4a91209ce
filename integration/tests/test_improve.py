"""A model plays, a teacher says what it would have done, the model learns on from it."""

from __future__ import annotations

import json
import logging
import shutil
import tomllib
from pathlib import Path

import netllm
import numpy as np
import pytest
from netllm.verbs.improving.growing_pool import agreement
from netllm_adapt import AdaptedModel, Episode, Pool, PoolWriter
from netllm_adapt.training.run_folder import read_log

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "congestion-control"
SHORT = {"steps": 2, "batch": 2, "validate_every": 2, "validation": 1}
ROUNDS = {**SHORT, "rounds": 2, "episodes": 4, "share": 0.75}
FEW = {"setting": "synthetic", "set": {"chunks": 6}}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A pool of abr, and a run that learned from it."""
    folder = tmp_path_factory.mktemp("begun")
    netllm.rl_collect("abr", policy="ppo", relabel="ppo", episodes=3, out=folder / "pool", **FEW)
    tiny = {"backbone": "tiny-random", "window": 4, "segment": 64, "rank": 2, "alpha": 4.0}
    netllm.adapt("abr", pool=folder / "pool", out=folder / "run", **SHORT, **tiny)
    return folder


def improve(begun, out, **changes):
    given = {"checkpoint": begun / "run", "pool": begun / "pool", **ROUNDS, **changes}
    return netllm.improve("abr", out=out, **given)


@pytest.fixture(scope="module")
def whole(begun, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "better"
    improve(begun, out)
    return out


def made(out):
    """Weights and episodes of a run, byte by byte; its log without times; the names of its files"""
    parts = [*out.rglob("*.safetensors"), *out.glob("pool/shard-*")]
    content = {str(path.relative_to(out)): path.read_bytes() for path in parts}
    log = [{k: v for k, v in line.items() if not k.endswith("_s")} for line in read_log(out)]
    return content, log, sorted(str(path.relative_to(out)) for path in out.rglob("*"))


def everything(folder):
    """All files below a folder, with what is in them."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_round_adds_labelled_episodes_of_model_and_teacher(whole, begun):
    pool, before = Pool(whole / "pool"), Pool(begun / "pool")
    drivers = ["round-0"] * 3 + ["ppo"] + ["round-1"] * 3 + ["ppo"]
    assert [one.policy for one in pool] == ["ppo"] * 3 + drivers
    assert [one.id for one in pool][:3] == [one.id for one in before]
    assert len({(one.id, one.policy) for one in pool}) == len(pool)
    assert all(one.labels.shape == (len(one.actions), 6) for one in pool)
    told = pool.provenance["collections"]
    assert [one["relabel"] for one in told] == ["ppo"] * 5
    assert [one["overrides"] for one in told] == [{"chunks": 6}] * 5


def test_the_log_tells_each_round_and_its_time_in_collection_and_updates(whole):
    first, *others = read_log(whole)
    assert (first["round"], first["step"]) == (0, 0)
    assert [one["round"] for one in others] == [1, 2]
    assert [one["step"] for one in others] == [2, 4]
    for number, line in enumerate(others, 1):
        driven = [one for one in Pool(whole / "pool") if one.policy == f"round-{number - 1}"]
        same = np.concatenate([one.labels.argmax(1) == one.actions for one in driven])
        assert line["agreement"] == pytest.approx(same.mean())
        assert line["episodes"] == 4
        assert line["collection_s"] > 0
        assert line["updates_s"] > 0
        about = json.loads((whole / f"round-{number}/best/config.json").read_text())["about"]
        assert line["validation"]["qoe"] == about["validation qoe"]


def test_what_validates_best_is_kept_and_the_card_tells_how_it_was_improved(whole):
    scores = [line["validation"]["qoe"] for line in read_log(whole)]
    kept = scores.index(max(scores))
    source = whole / (f"round-{kept}/best" if kept else "round-0")
    for file in ("encoder.safetensors", "head.safetensors", "adapter_model.safetensors"):
        assert (whole / "best" / file).read_bytes() == (source / file).read_bytes()
    about = AdaptedModel.from_pretrained(whole / "best").about
    assert about["improved"] == {
        "from": "run",
        "kept": kept,
        "rounds": 2,
        "teacher": "ppo",
        "episodes": 4,
        "share": 0.75,
        "steps": 2,
    }
    assert about["validation qoe"] == scores[kept]
    assert about["teachers"] == ["ppo"]
    card = (whole / "best" / "README.md").read_text()
    assert f"| improved | from=run, kept={kept}, rounds=2, teacher=ppo" in card


LEARNS = {"steps": 20, "batch": 4, "validate_every": 20, "validation": 2, "learning_rate": 0.02}


@pytest.mark.parametrize("worse", [False, True])
def test_a_round_that_validates_better_is_kept_and_never_one_that_is_worse(tmp_path, worse):
    # On generated traces the highest rate stalls for seconds per chunk, the lowest never.
    levels = ["own_policies:highest", "own_policies:lowest"]
    before, teacher = levels[::-1] if worse else levels
    netllm.rl_collect("abr", policy=before, episodes=4, out=tmp_path / "pool", **FEW)
    tiny = {"backbone": "tiny-random", "window": 2, "segment": 64, "warmup": 0}
    netllm.adapt("abr", pool=tmp_path / "pool", out=tmp_path / "run", **LEARNS, **tiny)
    few = {"rounds": 1, "episodes": 8, "teacher": teacher, **LEARNS}
    model = netllm.improve("abr", checkpoint=tmp_path / "run", out=tmp_path / "out", **few)
    before, after = (line["validation"]["qoe"] for line in read_log(tmp_path / "out"))
    assert (after < before - 1) if worse else (after > before + 1)
    assert model.about["improved"]["kept"] == (0 if worse else 1)
    assert model.about["validation qoe"] == max(before, after)
    assert read_log(tmp_path / "out")[1]["agreement"] == 0.0


def test_the_pool_to_begin_with_stays_as_it_is(begun, whole):
    assert len(Pool(begun / "pool")) == 3
    assert len(Pool(whole / "pool")) == 11
    first = "shard-00000.parquet"
    assert (begun / "pool" / first).read_bytes() == (whole / "pool" / first).read_bytes()


def test_a_pool_that_an_improvement_made_is_begun_with_again_and_gets_new_episodes(
    begun, whole, tmp_path
):
    out = tmp_path / "further"
    again = {"checkpoint": whole / "round-0", "pool": whole / "pool", "rounds": 1}
    improve(begun, out, **again, tracker="tensorboard")
    assert (out / "round-1" / "tensorboard").is_dir()
    before, after = Pool(whole / "pool"), Pool(out / "pool")
    seeds = [one["seed"] for one in after.provenance["collections"]]
    assert seeds == [0, 1, 2, 3, 4, 5, 6]
    assert [one.id for one in after][: len(before)] == [one.id for one in before]
    new = [one.id for one in after][len(before) :]
    assert len(new) == 4
    assert not {*new} & {one.id for one in before}


class Cut(BaseException):
    """What ends a run in its midst, as a signal would."""


class Scissors(logging.Handler):
    """Ends a run at the first of its steps that begins with a text."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def emit(self, record):
        if record.getMessage().startswith(self.text):
            raise Cut


@pytest.fixture
def cut_at(caplog):
    """Run something until it says that a step begins."""
    caplog.set_level(logging.INFO, logger="netllm.steps")
    steps = logging.getLogger("netllm.steps")

    def run(text, work):
        scissors = Scissors(text)
        steps.addHandler(scissors)
        try:
            with pytest.raises(Cut):
                work()
        finally:
            steps.removeHandler(scissors)

    return run


def test_a_run_that_is_cut_off_in_every_stage_gives_what_an_undisturbed_one_gives(
    begun, whole, tmp_path, cut_at
):
    out = tmp_path / "better"
    for stage in ("[0] validate", "[1] play", "[1] learn", "[2] play", "[2] learn"):
        cut_at(stage, lambda: improve(begun, out, resume=True))
    improve(begun, out, resume=True)
    assert made(out) == made(whole)


def test_a_run_goes_on_with_more_rounds_and_a_whole_one_is_left_as_it_is(begun, whole, tmp_path):
    out = tmp_path / "better"
    improve(begun, out, rounds=1)
    improve(begun, out, resume=True)
    assert made(out) == made(whole)
    before = everything(out)
    improve(begun, out, resume=True)
    assert everything(out) == before
    with pytest.raises(ValueError, match="`rounds` must be at least the 2 played, got 1"):
        improve(begun, out, rounds=1, resume=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rounds": 0}, "`rounds` must be at least 1, got 0"),
        ({"episodes": 0}, "`episodes` must be at least 1, got 0"),
        ({"validation": 0}, "`validation` must be at least 1, got 0"),
        ({"share": 1.5}, r"`share` must be within \[0, 1\], got 1.5"),
        ({"share": float("nan")}, r"`share` must be within \[0, 1\], got nan"),
        ({"epsilon": -0.1}, r"`epsilon` must be within \[0, 1\], got -0.1"),
        ({"jobs": 0}, "`jobs` must be"),
        ({"teacher": "pop"}, "Unknown abr policy 'pop'. Did you mean ppo"),
        ({"checkpoint": "nothing"}, "holds no checkpoint"),
        ({"setting": "nowhere"}, "Unknown setting 'nowhere'"),
        ({"set": {"chunk": 6}}, "Unknown field 'chunk'"),
        (
            {"set": {"rates_kbps": [1, 2, 3]}, "teacher": "bba", "pool": None},
            "answers with one of 6 rates",
        ),
        (
            {"set": {"rates_kbps": [1, 2, 3]}, "teacher": "bba"},
            "must have the fields of setting 'synthetic'",
        ),
        ({"soft": False}, "must have the teacher's answers as labels, got probabilities"),
        ({"teacher": "bba"}, "must have the teacher's answers as labels, got probabilities"),
        ({"rnk": 2}, "Did you mean rank"),
        ({"rank": 3}, "`rank` must be the checkpoint's own, 2, got 3"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"device": "abacus"}, "abacus"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_told_before_anything_is_written(begun, tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        improve(begun, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_or_pool_of_another_task_is_refused(begun, tmp_path):
    with pytest.raises(ValueError, match="adapted to abr, not to cjs"):
        netllm.improve("cjs", checkpoint=begun / "run", out=tmp_path / "out", **ROUNDS)
    other = {"task": "cjs", "setting": "default", "provenance": {}}
    with PoolWriter(tmp_path / "pool", **other) as pool:
        for one in Pool(begun / "pool"):
            pool.add(one)
    with pytest.raises(ValueError, match="was collected for cjs, not for abr"):
        improve(begun, tmp_path / "out", pool=tmp_path / "pool")
    assert not (tmp_path / "out").exists()


def test_a_pool_without_labels_is_refused(begun, tmp_path):
    netllm.rl_collect("abr", policy="ppo", episodes=1, out=tmp_path / "pool", **FEW)
    with pytest.raises(
        ValueError, match=r"as labels, got none\. Collect it with `rl-collect --rel"
    ):
        improve(begun, tmp_path / "out", pool=tmp_path / "pool")


def test_a_task_that_learns_from_recorded_answers_is_refused(netllm, tmp_path):
    command = ("improve", "vp", "--checkpoint", "pretrained", "--out", tmp_path / "out")
    code, _, err = netllm(*command)
    assert (code, "learns from recorded right answers" in err) == (2, True), err


def test_a_folder_that_holds_something_else_is_refused(begun, whole, tmp_path):
    shutil.copytree(begun / "run", tmp_path / "adapted")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    before = everything(tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        improve(begun, whole)
    with pytest.raises(FileExistsError, match="got a folder that holds 'letter'"):
        improve(begun, tmp_path / "mine")
    with pytest.raises(FileExistsError, match="must be a run of `netllm improve`"):
        improve(begun, tmp_path / "adapted", resume=True)
    assert everything(tmp_path) == before


def test_a_run_is_not_resumed_with_other_arguments(begun, whole):
    for changes, says in [
        ({"episodes": 5}, "begun with episodes=4, got 5"),
        ({"pool": None}, "begun with pool="),
        ({"teacher": "ppo-sampled"}, "begun with relabel='ppo', got 'ppo-sampled'"),
        ({"learning_rate": 0.5}, "begun with learning_rate=0.001, got 0.5"),
    ]:
        with pytest.raises(ValueError, match=says):
            improve(begun, whole, resume=True, **changes)


def test_the_command_is_repeated_by_the_recipe_that_it_wrote(netllm, begun, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    words = ("--checkpoint", begun / "run", "--rounds", "1", "--episodes", "2", "--steps", "1")
    code, text, err = netllm("improve", "abr", *words, "--validation", "1", "--out", out)
    assert code == 0, err
    assert f"netllm test abr --checkpoint {out}" in text
    assert err.count("synthetic has seeded generators") == 1  # each step would say it again
    recipe = tomllib.loads((out / "recipe.toml").read_text())
    assert recipe["command"] == "improve"
    assert recipe["steps"] == 1
    assert "learning_rate" not in recipe  # it is the checkpoint's own
    code, _, err = netllm("improve", "abr", "--recipe", out / "recipe.toml", "--out", again)
    assert code == 0, err
    assert made(again) == made(out)
    code, text, err = netllm("test", "abr", "--checkpoint", out, "--episodes", "2", "--json")
    assert code == 0, err


def test_the_recipe_of_a_round_is_the_checkpoints_own_with_fewer_steps(whole):
    recipe = json.loads((whole / "settings.json").read_text())["recipe"]
    assert recipe["steps"] == 2  # as asked for
    assert (recipe["rank"], recipe["window"]) == (2, 4)  # as it was adapted


def test_a_cluster_scheduler_is_improved_too(tmp_path):
    few = {"setting": "synthetic", "set": {"num_jobs": 3, "num_executors": 4}}
    pool = {"policy": "tuned-share", "relabel": "tuned-share", "episodes": 1}
    netllm.rl_collect("cjs", out=tmp_path / "pool", **pool, **few)
    tiny = {"backbone": "tiny-random", "layers": 1, "window": 2, "segment": 128}
    netllm.adapt("cjs", pool=tmp_path / "pool", out=tmp_path / "run", **SHORT, **tiny)
    given = {**ROUNDS, "rounds": 1, "episodes": 2, "share": 0.5, "epsilon": 0.1}
    given["pool"] = tmp_path / "pool"
    out = tmp_path / "better"
    model = netllm.improve("cjs", checkpoint=tmp_path / "run", out=out, **given)
    assert model.about["improved"]["teacher"] == "tuned-share"
    assert [one.policy for one in Pool(out / "pool")] == ["tuned-share", "round-0", "tuned-share"]
    assert 0 <= read_log(out)[1]["agreement"] <= 1


def test_a_third_partys_task_is_improved_too(install, tmp_path):
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(project["name"], project["version"], project["entry-points"], EXAMPLE / "src")
    pool = {"policy": "aimd", "relabel": "delay", "episodes": 2, "out": tmp_path / "pool"}
    netllm.rl_collect("congestion", **pool)
    run = {"pool": tmp_path / "pool", "backbone": "tiny-random", "out": tmp_path / "run"}
    netllm.adapt("congestion", **run, **SHORT)
    given = {**ROUNDS, "rounds": 1, "teacher": "blend", "share": 1.0, "epsilon": 0.5}
    model = netllm.improve(
        "congestion", checkpoint=tmp_path / "run", out=tmp_path / "better", **given
    )
    assert model.about["improved"]["teacher"] == "blend"
    assert {one.policy for one in Pool(tmp_path / "better" / "pool")} == {"round-0"}


def episode(actions, labels):
    """One with these actions and labels."""
    steps = np.zeros(len(actions), np.float32)
    return Episode(
        id="e",
        policy="mine",
        seed=0,
        observations={"load": steps},
        actions=np.array(actions),
        rewards=steps,
        labels=labels,
    )


@pytest.mark.parametrize(
    ("actions", "labels", "share"),
    [
        ([1, 0], [1, 1], 0.5),
        ([1, 0], [[0.1, 0.9], [0.4, 0.6]], 0.5),
        ([[3, 1], [2, 5]], [[3, 1], [2, 4]], 0.5),
        ([[3, 1], [2, 5]], [[[0, 1, 0.2], [3, 1, 0.8]], [[2, 5, 0.9], [1, 1, 0.1]]], 1.0),
        ([1, 0], [[[1.0]], [[0.0]]], None),
        ([1, 0], None, None),
    ],
    ids=["answers", "probabilities", "pairs", "weighed pairs", "unknown", "no labels"],
)
def test_agreement_is_the_share_of_decisions_that_the_label_favours(actions, labels, share):
    told = None if labels is None else np.array(labels)
    assert agreement([episode(actions, told)]) == share
    assert agreement([]) is None
