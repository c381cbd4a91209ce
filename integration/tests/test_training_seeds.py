import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import netllm
import numpy as np
import pytest
from netllm.deciders.checkpoint_names import found_checkpoints, lineages, nicknames
from netllm.report.compare import compare
from netllm.report.intervals import mean_of
from netllm.report.report import Report
from netllm.report.result import Result, saved_results
from netllm.report.table import sentence
from netllm.report.training_seeds import trained
from netllm.task import Metric
from netllm_adapt.checkpoint.config import BackboneSpec, Config, Part

QOE = Metric("qoe", "QoE")
TASK = SimpleNamespace(metrics=(QOE,), bounds=frozenset(), published=frozenset())


def config(seed, **changes):
    recipe = {"steps": 800, "lr": 0.001, "seed": seed, **changes}
    about = {"task": "abr", "setting": "default", "recipe": recipe, "made_at": f"day {seed}"}
    part = Part("linear", {})
    return Config(
        backbone=BackboneSpec("tiny-random", seed=seed), encoder=part, head=part, about=about
    )


def run(folder, seed, **changes):
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "config.json").write_bytes(msgspec.json.encode(config(seed, **changes)))
    return folder


def test_a_pattern_stands_for_the_checkpoints_that_it_fits_in_natural_order(tmp_path):
    for seed in (10, 9, 1):
        run(tmp_path / "runs" / f"seed-{seed}", seed)
    (tmp_path / "runs" / "seed-pool").mkdir()
    expected = [str(Path("runs") / f"seed-{seed}") for seed in (1, 9, 10)]
    assert found_checkpoints(["runs/seed-*"], home=tmp_path) == expected
    absolute = found_checkpoints([str(tmp_path / "runs" / "seed-*")], home=Path("/"))
    assert absolute == [str(tmp_path / name) for name in expected]
    both = found_checkpoints(["pretrained", "runs/seed-1/", "runs/seed-*"], home=tmp_path)
    assert both == ["pretrained", *expected]


def test_a_pattern_that_fits_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`--checkpoint none-\*` must fit at least one folder"):
        found_checkpoints(["none-*"], home=tmp_path)


def test_checkpoints_have_the_shortest_names_that_tell_them_apart():
    assert nicknames(["runs/seed-1", "runs/seed-2", "pretrained"]) == [
        "seed-1",
        "seed-2",
        "pretrained",
    ]
    assert nicknames(["a/run/best", "b/run/best"]) == ["a/run", "b/run"]
    assert nicknames(["run/best", "run/last"]) == ["best", "last"]


def test_checkpoints_that_differ_in_the_seed_alone_are_of_one_recipe():
    names = ["runs/seed-1", "runs/seed-2", "runs/other"]
    found = lineages(names, [config(1), config(2), config(3, steps=100)])
    assert [found[name].recipe for name in names] == ["seed-*", "seed-*", ""]
    assert [found[name].seed for name in names] == [1, 2, 3]


def improved(seed, **changes):
    """Of its own episodes, and its own best round."""
    one = config(seed, steps=800 if seed == 2 else 200)
    told = {"from": f"seed-{seed}", "kept": seed, "rounds": 3, "teacher": "ppo", **changes}
    one.about |= {"improved": told, "pool": f"seed {seed}", "collected by": ["round-0"] * seed}
    one.identity.learned.append(f"episodes of {seed}")
    return one


def test_improved_checkpoints_are_of_one_recipe_whatever_their_rounds_have_led_to():
    names = ["better-0", "better-1", "better-2", "other", "plain"]
    configs = [*(improved(seed) for seed in range(3)), improved(3, teacher="mpc"), config(4)]
    found = lineages(names, configs)
    assert [found[name].recipe for name in names] == [*["better-*"] * 3, "", ""]
    assert [found[name].seed for name in names] == [0, 1, 2, 3, 4]


def test_unlike_recipes_under_one_pattern_are_named_apart():
    names = [f"runs/seed-{seed}" for seed in (1, 2, 3, 4)]
    configs = [config(1), config(2), config(3, steps=100), config(4, steps=100)]
    found = lineages(names, configs)
    assert [found[name].recipe for name in names] == [
        *["seed-* [steps=800]"] * 2,
        *["seed-* [steps=100]"] * 2,
    ]


def test_one_seed_twice_is_no_recipe_of_two_seeds():
    found = lineages(["a", "copy"], [config(1), config(1)])
    assert [one.recipe for one in found.values()] == ["", ""]


def test_checkpoints_of_earlier_versions_are_told_by_their_command():
    words = "netllm adapt abr --pool p{0} --seed {0} --steps {1} --out runs/{0}"
    configs = [config(0) for _ in range(3)]
    for one, seed, steps in zip(configs, (1, 2, 3), (9, 9, 8), strict=True):
        one.about = {"command": words.format(seed, steps)}
    found = lineages(["x1", "x2", "x3"], configs)
    assert [(one.recipe, one.seed) for one in found.values()] == [("x*", 1), ("x*", 2), ("", 3)]


@pytest.mark.parametrize("about", [{}, {"recipe": 3, "command": ["x"]}])
def test_a_config_that_says_nothing_of_its_making_is_alone(about):
    configs = [config(1), config(2)]
    for one in configs:
        one.about = about
    found = lineages(["a", "b"], configs)
    assert [one.recipe for one in found.values()] == ["", ""]


def results(levels, *, recipe="seed-*", count=12, start=0):
    """A made-up model for each level, of one recipe; episodes differ far more than models do."""
    shares = np.random.default_rng(3).normal(size=count)
    wobble = np.random.default_rng(4).normal(scale=0.01, size=(start + len(levels), count))
    found = []
    for seed, level in enumerate(levels, start):
        rows = [
            {"id": f"e{i}", "seed": 0, "qoe": level + shares[i] + wobble[seed, i]}
            for i in range(count)
        ]
        found.append(
            Result(
                task="abr",
                setting="default",
                policy=None if recipe else "ppo",
                checkpoint=f"runs/{recipe}{seed}" if recipe else None,
                metrics={"qoe": mean_of(rows, "qoe")},
                subsets={},
                episodes=rows,
                seconds=1.0,
                decisions_per_s=1.0,
                nickname=f"{recipe}{seed}" if recipe else "",
                recipe=recipe,
                training_seed=seed if recipe else None,
            )
        )
    return found


def test_the_spread_over_seeds_stands_apart_from_that_of_the_episodes():
    (one,) = trained(results([0.9, 1.0, 1.1]), (QOE,))
    spread = one.metrics["qoe"]
    assert (one.seeds, len(spread.over_seeds)) == ([0, 1, 2], 3)
    assert spread.sd == pytest.approx(0.1, abs=0.01)  # of 0.9, 1.0, 1.1
    assert spread.mean == pytest.approx(np.mean(spread.over_seeds))
    assert spread.ci95 is None  # three seeds are too few for a word about others
    low, high = trained(results([0.9, 1.0, 1.1, 1.0, 0.95]), (QOE,))[0].metrics["qoe"].ci95
    assert high - low > 1  # the episodes' standard deviation is 1


def test_one_model_of_a_recipe_says_nothing_of_its_seeds():
    alone = results([0.9])
    assert trained(alone, (QOE,)) == []
    found = compare([*results([0.5], recipe=""), *alone], TASK, {})
    assert [one.checkpoint for one in found] == ["seed-*0"]


def test_a_recipe_has_a_verdict_with_five_seeds_and_each_seed_its_own():
    rival = results([0.5], recipe="")
    few = compare([*rival, *results([0.9, 1.0, 1.1])], TASK, {})
    assert [(one.checkpoint, one.verdict) for one in few] == [
        *((f"seed-*{seed}", "ahead") for seed in range(3)),
        ("seed-*", "none"),
    ]
    assert (
        "12 episodes, 3 training seeds, and it takes at least 5" in sentence(few[-1], (QOE,)).plain
    )
    many = compare([*rival, *results([0.9, 1.0, 1.1, 0.95, 1.05])], TASK, {})
    assert (many[-1].checkpoint, many[-1].verdict) == ("seed-*", "ahead")
    assert many[-1].clusters == {"episode": 12, "training seed": 5}


def test_luck_in_training_is_no_verdict_on_a_recipe():
    rival = results([1.0], recipe="")
    found = compare([*rival, *results([0.7, 1.3, 0.8, 1.25, 1.0])], TASK, {})
    assert {one.verdict for one in found[:-1]} >= {"ahead", "behind"}  # each model for itself
    assert (found[-1].checkpoint, found[-1].verdict) == ("seed-*", "level")


def test_recipes_are_compared_over_the_seeds_of_both():
    ours, others = results([1.0] * 5), results([0.5] * 5, recipe="other-*", start=5)
    found = compare([*ours, *others], TASK, {})
    assert [(one.checkpoint, one.rival, one.role, one.verdict) for one in found] == [
        ("seed-*", "other-*", "recipe", "ahead"),
        ("other-*", "seed-*", "recipe", "behind"),
    ]
    assert found[0].clusters == {
        "episode": 12,
        "training seed": 5,
        "training seed of the rival": 5,
    }


def test_the_seeds_stand_in_table_and_document_and_come_back(tmp_path):
    some = results([0.9, 1.0, 1.1])
    report = Report(some, [], {}, (QOE,), recipes=trained(some, (QOE,)))
    assert "seed-* over 3 training seeds (0, 1, 2): QoE " in report.markdown()
    path = report.save(tmp_path / "results.json")
    (document,) = json.loads(path.read_text())["recipes"]
    assert document["seeds"] == [0, 1, 2]
    assert document["checkpoints"] == ["seed-*0", "seed-*1", "seed-*2"]
    assert saved_results(path) == some


def test_two_runs_of_one_recipe_are_reported_over_their_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    netllm.rl_collect("abr", policy="bba", setting="synthetic", episodes=2, out="pool")
    for seed in (4, 7):
        sizes = {"layers": 1, "rank": 2, "steps": 1, "batch": 2, "validate_every": 1}
        netllm.adapt(
            "abr",
            pool="pool",
            backbone="tiny-random",
            out=f"runs/seed-{seed}",
            validation=2,
            seed=seed,
            **sizes,
        )
    report = netllm.test(
        "abr", policy="bba", checkpoint="runs/seed-*", setting="synthetic", episodes=2
    )
    assert [result.label for result in report.results] == ["bba", "seed-4", "seed-7"]
    (one,) = report.recipes
    assert (one.recipe, one.seeds) == ("seed-*", [4, 7])
    assert len(one.metrics["qoe"].over_seeds) == 2
    assert {(one.checkpoint, one.rival, one.verdict) for one in report.comparisons} == {
        ("seed-4", "bba", "none"),
        ("seed-7", "bba", "none"),
        ("seed-*", "bba", "none"),
    }
