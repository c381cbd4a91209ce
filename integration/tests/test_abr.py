"""The task from end to end, on the tiny backbone and generated traces."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import netllm
import numpy as np
import pytest
from netllm.abr.task import ABR, fields
from netllm_adapt import AdaptedModel, Policy, Pool, Recipe
from netllm_adapt.files.locks import locked
from netllm_adapt.lora import has_int8
from netllm_sims.abr import setting
from peft.tuners.lora import LoraLayer

TINY = {"steps": 4, "batch": 2, "layers": 1, "dtype": "float32", "validate_every": 2, "rank": 2}
FLAGS = [
    *("--steps", "4", "--batch", "2", "--layers", "1", "--rank", "2"),
    *("--dtype", "float32", "--validate-every", "2"),
]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    path = tmp_path_factory.mktemp("abr") / "pool"
    return netllm.rl_collect(
        "abr",
        policy=["bba", "random"],
        relabel="bba",
        epsilon=0.1,
        setting="synthetic",
        episodes=6,
        out=path,
    )


@pytest.fixture(scope="module")
def run(pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("abr") / "run"
    netllm.adapt("abr", pool=pool.path, backbone="tiny-random", out=out, validation=4, **TINY)
    return out


def same(ours, theirs):
    return (
        ours.id == theirs.id
        and ours.policy == theirs.policy
        and np.array_equal(ours.actions, theirs.actions)
        and np.array_equal(ours.labels, theirs.labels)
        and np.array_equal(ours.observations["buffer_s"], theirs.observations["buffer_s"])
    )


def test_policies_take_turns_in_a_pool(pool):
    assert [episode.policy for episode in pool] == ["bba", "random"] * 3
    assert len({episode.id for episode in pool}) == 6


def test_an_episode_of_a_pool_is_47_decisions_with_all_that_was_seen(pool):
    episode = pool[0]
    assert episode.actions.shape == (47,)
    assert set(episode.observations) >= {*fields(6), "reward", "stall_s", "level"}
    assert episode.observations["sizes_mb"].shape == (47, 6, 6)
    assert episode.meta["qoe"] == pytest.approx(episode.rewards.mean(), abs=1e-5)
    # The observation after a decision reports what that decision earned.
    assert episode.observations["reward"][1:] == pytest.approx(episode.rewards[:-1])


def test_labels_are_what_the_teacher_would_have_done(pool):
    driven_by_bba, driven_by_dice = pool[0], pool[1]
    differs = driven_by_bba.labels != driven_by_bba.actions
    assert 0 < differs.mean() < 0.3  # only at random actions, a tenth of all
    assert (driven_by_dice.labels != driven_by_dice.actions).mean() > 0.5


def test_the_same_arguments_give_the_same_pool(pool, tmp_path):
    again = netllm.rl_collect(
        "abr",
        policy=["bba", "random"],
        relabel="bba",
        epsilon=0.1,
        setting="synthetic",
        episodes=6,
        out=tmp_path / "again",
    )
    assert all(same(ours, theirs) for ours, theirs in zip(pool, again, strict=True))


def test_another_seed_gives_another_pool(pool, tmp_path):
    other = netllm.rl_collect(
        "abr",
        policy="bba",
        relabel="bba",
        setting="synthetic",
        episodes=2,
        seed=1,
        out=tmp_path / "o",
    )
    assert not same(pool[0], other[0])


def test_a_collection_records_how_episodes_end(pool):
    for episode in pool:
        assert (episode.ended, episode.reason) == ("terminated", "the video is over")
        assert episode.final.keys() == episode.observations.keys()
        assert episode.final["chunks_left"] == 0 < episode.observations["chunks_left"][-1]


def test_a_pool_grows_only_when_asked_to(netllm, tmp_path):
    command = ("rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--episodes", "2")
    assert netllm(*command, "--out", tmp_path / "pool")[0] == 0
    assert netllm(*command, "--out", tmp_path / "pool")[0] == 2
    assert netllm(*command, "--out", tmp_path / "pool", "--append", "--seed", "1")[0] == 0
    assert len(Pool(tmp_path / "pool")) == 4


def test_a_collection_that_was_cut_off_goes_on_and_is_never_collected_twice(
    netllm, tmp_path, caplog
):
    out, whole = tmp_path / "pool", tmp_path / "whole"
    command = ("rl-collect", "abr", "--policy", "own_policies:dice", "--setting", "synthetic")
    command += ("--episodes", "300", "--epsilon", "0.5")
    code, said, _ = netllm(*command, "--out", whole)
    assert (code, "whole: 300 episodes, " in said) == (0, True)
    shutil.copytree(whole, out)
    (out / "shard-00001.parquet").unlink()
    said = netllm("pool", "info", out)[1]
    assert "pool: 256 of 300 episodes, " in said
    assert "collected: 256 of 300 episodes, first_shard=" in said
    assert netllm(*command, "--out", out, "--append")[0] == 0
    pool = Pool(out)
    assert all(map(same, pool, Pool(whole)))
    assert (len(pool), len(pool.provenance["collections"])) == (300, 1)
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, said, err = netllm(*command, "--out", out, "--append")
    assert (code, "pool: 300 episodes, " in said) == (0, True)
    assert "holds all 300 episodes of this collection already" in caplog.text
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (out / "shard-00000.parquet").unlink()
    code, _, err = netllm(*command, "--out", out, "--append")
    assert (code, "holds 44 of the 300 episodes" in err) == (2, True)
    assert netllm(*command, "--out", out, "--append", "--seed", "1")[0] == 0
    assert Pool(out).collected == [44, 300]
    (out / "_provenance.json").unlink()
    code, _, err = netllm(*command, "--out", out, "--append")
    assert (code, "but 344 from shard-00001.parquet on do not" in err) == (2, True), err


def test_a_collection_that_has_only_said_that_it_begins_goes_on(netllm, tmp_path):
    out, whole = tmp_path / "pool", tmp_path / "whole"
    command = ("rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--episodes", "2")
    assert netllm(*command, "--out", whole)[0] == 0
    out.mkdir()
    shutil.copy(whole / "_provenance.json", out)
    code, _, err = netllm(*command, "--out", out)
    assert (code, "must be new, empty or a pool" in err) == (2, True)
    assert netllm(*command, "--out", out, "--append")[0] == 0
    assert Pool(out).collected == [2]
    shutil.rmtree(out)
    out.mkdir()
    shutil.copy(whole / "_provenance.json", out)
    assert netllm(*command, "--out", out, "--append", "--seed", "1")[0] == 0
    assert netllm(*command, "--out", out, "--append")[0] == 0
    assert Pool(out).collected == [0, 2, 2]


def test_two_collections_at_once_do_not_mix(netllm, tmp_path):
    out = tmp_path / "pool"
    command = ("rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--episodes", "2")
    with ThreadPoolExecutor(1) as other, locked(out):
        code, _, err = other.submit(netllm, *command, "--out", out, "--append").result()
        assert (code, f"{out}: must have one writer" in err, f"process {os.getpid()}" in err) == (
            1,
            True,
            True,
        )
    assert not out.exists()
    assert netllm(*command, "--out", out, "--append")[0] == 0


def test_adapting_keeps_the_best_checkpoint_and_what_it_was_made_of(run):
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["backbone"]["name"] == "tiny-random"
    assert config["about"]["teachers"] == ["bba"]
    assert config["about"]["setting"] == "synthetic"
    assert "validation qoe" in config["about"]
    assert "| validation qoe |" in (run / "best" / "README.md").read_text()


def test_an_adapted_model_is_tested_beside_its_rivals(run):
    report = netllm.test(
        "abr", policy=["bba", "random"], checkpoint=run, setting="synthetic", episodes=4
    )
    assert [result.label for result in report.results] == ["bba", "random", "run"]
    assert {(one.rival, one.role) for one in report.comparisons} == {
        ("bba", "best rival"),
        ("bba", "teacher"),
    }
    ids = {tuple(row["id"] for row in result.episodes) for result in report.results}
    assert len(ids) == 1


def test_a_checkpoint_decides_alike_in_this_process_and_in_others(run):
    options = {"checkpoint": run, "setting": "synthetic", "episodes": 4}
    here, apart = (netllm.test("abr", **options, jobs=jobs) for jobs in (1, 2))
    assert here.results[0].episodes == apart.results[0].episodes


def test_the_program_runs_collect_adapt_resume_and_test(netllm, pool, tmp_path):
    out = tmp_path / "run"
    adapt = ("adapt", "abr", "--pool", pool.path, "--backbone", "tiny-random", "--out", out)
    assert netllm(*adapt, *FLAGS, "--validation", "2")[0] == 0
    assert netllm(*adapt, *FLAGS)[0] == 2
    assert netllm(*adapt, *FLAGS, "--validation", "2", "--resume")[0] == 0
    (out / "best").rename(out / ".best.old")  # as a kill between two renames leaves it
    code, text, _ = netllm(
        *("test", "abr", "--policy", "bba", "--checkpoint", out, "--setting", "synthetic"),
        *("--episodes", "2", "--json"),
    )
    assert code == 0
    checkpoint = json.loads(text)["results"][1]
    assert (checkpoint["policy"], checkpoint["checkpoint"]) == (None, str(out))


def adapt_flags(pool, out, **changes):
    flags = {"--pool": pool, "--backbone": "tiny-random", "--validation": "4", "--out": out}
    flags |= dict(zip(FLAGS[::2], FLAGS[1::2], strict=True))
    return ["adapt", "abr", *(text for flag in (flags | changes).items() for text in flag)]


def weights(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_a_run_is_not_resumed_from_another_pool(netllm, pool, run, tmp_path):
    collect = ("rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--seed", "1")
    assert netllm(*collect, "--episodes", "6", "--out", tmp_path)[0] == 0
    code, _, err = netllm(*adapt_flags(tmp_path, run), "--resume")
    assert code == 2
    assert re.search("begun with pool='6 episodes [0-9a-f]{16}', got '6 .*--out", err)


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--validation", "2", "validation=4, got 2"),
        ("--set", "latency_s=0.2", "overrides={}, got {'latency_s': 0.2}"),
        ("--backbone", "tiny-random-gpt2", "backbone='tiny-random', got 'tiny-random-gpt2'"),
        ("--target-return", "50", "target return=None, got 50.0"),
        ("--start", "{run}", "start=None, got"),
    ],
)
def test_a_run_is_not_resumed_from_other_inputs(netllm, pool, run, flag, value, says):
    command = adapt_flags(pool.path, run, **{flag: value.format(run=run)})
    code, _, err = netllm(*command, "--resume")
    assert code == 2
    assert says in err


def test_a_killed_run_resumes_to_the_same_weights(netllm, pool, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    longer = {"--steps": "60", "--validate-every": "20", "--log-every": "1", "--validation": "1"}
    command = [str(text) for text in adapt_flags(pool.path, cut, **longer)]
    # It ends after the first kept state and before the second, however fast the machine is.
    script = """
import os, signal, sys
from netllm.cli import main
from netllm_adapt.training.run_folder import RunFolder

whole = RunFolder.log

def log(folder, line):
    whole(folder, line)
    if line["step"] == 25:
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.log = log
sys.exit(main(sys.argv[1:]))
"""
    program = [sys.executable, "-c", script, *command]
    assert subprocess.run(program, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    log = cut / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 99, "lo')
    assert netllm(*command, "--resume")[0] == 0
    assert netllm(*adapt_flags(pool.path, whole, **longer))[0] == 0
    assert weights(cut / "last") == weights(whole / "last") != {}
    assert {path.name for path in cut.iterdir()} == {path.name for path in whole.iterdir()}


def test_a_folder_of_something_else_is_refused_before_the_model_is_built(netllm, pool, tmp_path):
    # The backbone is unknown too: its error would come from building the model.
    command = adapt_flags(pool.path, pool.path, **{"--backbone": tmp_path / "none"})
    before = sorted(pool.path.iterdir())
    code, _, err = netllm(*command)
    assert (code, "folder of a run, got a folder that holds '_provenance.json'" in err) == (2, True)
    assert sorted(pool.path.iterdir()) == before


# An earlier run has compiled the simulator: what numba keeps of it would not fit either.
@pytest.mark.usefixtures("run")
def test_a_full_disk_while_adapting_is_exit_code_1_and_the_run_goes_on_later(
    netllm, pool, tmp_path, room
):
    command = adapt_flags(pool.path, tmp_path / "run")
    with room(20_000):
        code, _, err = netllm(*command)
    assert code == 1
    assert "Free space" in err
    assert "--resume" in err
    assert str(tmp_path / "run" / "last") in err
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {"settings.json", "log.jsonl"}
    assert netllm(*command, "--resume")[0] == 0


def test_a_backbone_of_another_width_is_refused(run, netllm, tmp_path):
    from transformers import LlamaConfig, LlamaModel

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    LlamaModel(LlamaConfig(**sizes, num_hidden_layers=2)).save_pretrained(tmp_path / "llm")
    other = tmp_path / "other"
    shutil.copytree(run / "best", other)
    config = json.loads((other / "config.json").read_text())
    config["backbone"]["name"] = str(tmp_path / "llm")
    (other / "config.json").write_text(json.dumps(config))
    asked = ("test", "abr", "--checkpoint", other, "--setting", "synthetic")
    code, _, err = netllm(*asked)
    assert code == 2
    assert "config.json: must have " in err
    assert "digests.json" in err
    (other / "digests.json").unlink()
    code, _, err = netllm(*asked)
    assert code == 2
    assert "its backbone" in err
    assert "--trust-backbone" in err
    code, _, err = netllm(*asked, "--trust-backbone")
    assert code == 2
    assert "adapter_model.safetensors must fit the backbone; was it made for another one?" in err


def test_flags_override_the_toml_recipe_and_that_the_tasks_own(netllm, pool, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("steps = 2\nrank = 3\nlayers = 1\nbatch = 1\ndtype = 'float32'\n")
    out = tmp_path / "run"
    command = ("adapt", "abr", "--recipe", recipe, "--pool", pool.path)
    command += ("--backbone", "tiny-random")
    code, _, err = netllm(*command, "--out", out, "--rank", "2", "--validation", "2")
    assert code == 0, err
    settings = json.loads((out / "settings.json").read_text())["recipe"]
    assert (settings["steps"], settings["rank"], settings["layers"]) == (2, 2, 1)
    assert settings["learning_rate"] == ABR().recipe("tiny-random").learning_rate


@pytest.mark.parametrize("quantise", ["nf4", "int8"])
def test_a_quantised_backbone_is_adapted_kept_and_tested(netllm, pool, tmp_path, quantise):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is netllm-adapt's extra `quantised`")
    out = tmp_path / "run"
    command = ("adapt", "abr", "--pool", pool.path, "--backbone", "tiny-random", *FLAGS)
    command += ("--out", out, "--validation", "2", "--quantise")
    code, _, err = netllm(*command, quantise)
    assert code == 0, err
    code, _, err = netllm(*command, "none", "--resume")
    assert (code, f"quantise='{quantise}', got None" in err) == (2, True), err
    model = AdaptedModel.from_pretrained(out / "best")
    assert model.spec.quantise == quantise
    layers = [module for module in model.backbone.modules() if isinstance(module, LoraLayer)]
    kinds = {type(layer).__name__ for layer in layers}
    assert kinds == {{"nf4": "LoraLinear4bit", "int8": "LoraLinear8bitLt"}[quantise]}
    test = ("test", "abr", "--checkpoint", out, "--setting", "synthetic", "--episodes", "2")
    code, _, err = netllm(*test)
    assert code == 0, err


def test_a_quantisation_that_cannot_be_is_one_message(netllm, pool, tmp_path):
    command = ("adapt", "abr", "--pool", pool.path, *FLAGS, "--out", tmp_path / "run")
    code, _, err = netllm(*command, "--backbone", "scratch", "--quantise", "nf4")
    assert (code, "`quantise` must be None for 'scratch-16x" in err) == (2, True), err
    code, _, err = netllm(*command, "--quantise", "nf5")
    assert (code, "nf5" in err, "int8" in err) == (2, True, True), err


@pytest.mark.skipif(not has_int8(), reason="no AVX512-VNNI here")
def test_products_in_int8_adapt_the_same_checkpoint(netllm, pool, tmp_path):
    command = ("adapt", "abr", "--pool", pool.path, *FLAGS, "--products", "int8", "--validation", 2)
    out = tmp_path / "run"
    code, _, err = netllm(*command, "--backbone", "tiny-random", "--out", out)
    assert code == 0, err
    assert json.loads((out / "settings.json").read_text())["recipe"]["products"] == "int8"
    test = ("test", "abr", "--checkpoint", out, "--setting", "synthetic", "--episodes", "2")
    code, _, err = netllm(*test)
    assert code == 0, err
    code, _, err = netllm(*command, "--backbone", "scratch", "--out", tmp_path / "scratch")
    assert (code, "`products` must be None for 'scratch-" in err) == (2, True), err


def test_an_unknown_change_of_the_recipe_is_refused_with_the_nearest(pool, tmp_path):
    with pytest.raises(ValueError, match="Did you mean rank"):
        netllm.adapt("abr", pool=pool.path, out=tmp_path / "run", rnk=2)


def test_the_default_recipe_is_the_tasks_own_for_the_backbone():
    from netllm.cli import app
    from netllm.commands.recipe_files import recipe_for
    from netllm.commands.recipe_flags import Recipe as Flags

    def recipe(*backbone: str) -> Recipe:
        _, bound, _ = app.parse_args(["adapt", "abr", "--out", "run", *backbone])
        flags = bound.arguments.get("recipe", Flags())
        return recipe_for("abr", bound.arguments.get("backbone", "smollm2-135m"), flags)

    assert recipe() == ABR().recipe("smollm2-135m")
    assert recipe("--backbone", "tiny-random") == ABR().recipe("tiny-random")
    assert ABR().recipe("smollm2-135m") != ABR().recipe("tiny-random")


def test_layers_of_the_tasks_recipe_can_be_undone():
    from netllm.cli import app

    _, bound, _ = app.parse_args(["adapt", "abr", "--out", "run", "--layers", "none"])
    assert bound.arguments["recipe"].layers is None


def test_a_configuration_of_another_width_is_refused(run, netllm, tmp_path):
    shutil.copytree(run / "best", tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    config = json.loads(path.read_text())
    config["encoder"]["config"]["width"] = 32
    path.write_text(json.dumps(config))
    (tmp_path / "other" / "digests.json").unlink()
    code, _, err = netllm(
        "test",
        "abr",
        "--checkpoint",
        tmp_path / "other",
        "--setting",
        "synthetic",
        "--episodes",
        "1",
    )
    assert code == 2
    assert "encoder.safetensors: its weights must be as config.json" in err
    assert "from one checkpoint" in err


def test_a_checkpoint_of_another_task_is_refused(run, netllm, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(run / "best", folder)
    config = json.loads((folder / "config.json").read_text())
    config["about"]["task"] = "vp"
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = netllm("test", "abr", "--checkpoint", folder)
    assert code == 2
    assert "adapted to vp, not to abr" in err


def test_random_weights_are_a_backbone_like_any_other(pool, tmp_path):
    out = tmp_path / "run"
    model = netllm.adapt(
        "abr", pool=pool.path, backbone="tiny-random-gpt2", out=out, validation=2, **TINY
    )
    assert isinstance(model, AdaptedModel)
    assert model.spec.name == "tiny-random-gpt2"


def test_a_person_can_decide_step_by_step_with_a_checkpoint(run):
    from netllm_sims.abr import Simulator

    place = setting("synthetic")
    policy = Policy(AdaptedModel.from_pretrained(run / "best"))
    simulator = Simulator(place, place.sessions("test", episodes=2))
    policy.reset(0)
    action = policy.act(simulator.reset())
    assert action.shape == (2,)
    assert set(action.tolist()) <= set(range(6))


def test_a_video_with_another_ladder_gets_an_encoder_and_a_head_that_fit():
    import torch

    place = setting("synthetic", rates_kbps=(400.0, 1000.0, 2500.0))
    encoder, head = ABR().encoder(place, Recipe(), width=16), ABR().head(place, width=16)
    assert fields(3)["sizes_mb"]["channels"] == 3
    seen = {
        "throughput_mbps": torch.rand(1, 2, 6),
        "delay_s": torch.rand(1, 2, 6),
        "sizes_mb": torch.rand(1, 2, 6, 3),
        "rate_kbps": torch.rand(1, 2),
        "buffer_s": torch.rand(1, 2),
        "chunks_left": torch.rand(1, 2),
    }
    tokens = encoder.observe(seen, torch.zeros(1, 2))
    assert tokens.shape == (1, 2, 7, 16)
    assert head.distribution(tokens, seen).shape == (1, 2, 3)


def test_bba_reaches_its_published_number_through_the_program(netllm, real_data):
    # ORACLES.md, run of the public reference; and the part of it whose traces training never saw.
    _, out, _ = netllm("test", "abr", "--policy", "bba", "--data", real_data, "--json")
    (result,) = json.loads(out)["results"]
    assert result["metrics"]["qoe"]["mean"] == pytest.approx(0.764151, abs=1e-6)
    assert result["subsets"]["clean"]["episodes"] == 58
    assert json.loads(out)["provenance"]["data"] == {"default": "real"}


def test_genet_reaches_its_published_number_with_its_own_seed(netllm, real_data):
    # ORACLES.md: 0.847871 with the reference's random stream from seed 100003.
    command = ("test", "abr", "--policy", "genet", "--data", real_data, "--json")
    result = json.loads(netllm(*command)[1])["results"][0]
    assert result["metrics"]["qoe"]["mean"] == pytest.approx(0.847871, abs=1e-4)
    assert result["sequential"]


def test_the_rivals_of_the_table_are_registered_and_the_bound_is_no_rival():
    task = ABR()
    assert set(task.rivals) <= set(netllm.policies("abr"))
    assert task.bounds <= set(task.rivals)
