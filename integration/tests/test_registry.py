from importlib.metadata import entry_points
from pkgutil import resolve_name

import numpy as np
import pytest
from netllm import registry

TASKS = registry.tasks()


def test_abr_is_an_installed_task():
    assert "abr" in registry.tasks()
    assert registry.task("abr").name == "abr"


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown task 'abc'.*Did you mean abr"):
        registry.task("abc")


def test_an_unknown_policy_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown abr policy 'mcp'. Did you mean mpc"):
        registry.policy("abr", "mcp", setting=None)


def test_every_policy_of_the_table_is_registered():
    named = {"bba", "bola", "panda", "mpc", "mpc-paper", "genet", "genet-greedy", "ppo"}
    assert named | {"random", "hindsight"} <= set(registry.policies("abr"))


@pytest.mark.parametrize("task", TASKS)
def test_every_policy_trainer_and_plot_that_is_named_can_be_loaded(task):
    found = registry.task(task)
    for name in registry.policies(task):
        (point,) = entry_points(group="netllm.policies", name=f"{task}.{name}")
        assert callable(point.load())
    for where in (*found.trainers.values(), *found.plots.values()):
        assert callable(resolve_name(where))


def test_a_third_party_adds_policy_and_task_by_entry_points(tmp_path, monkeypatch, netllm):
    (tmp_path / "their_package.py").write_text(
        "from netllm.abr import ABR\n"
        "class Theirs(ABR):\n"
        "    name = 'theirs'\n"
        "from netllm.task import PoolTask\n"
        "class Half(PoolTask):\n"
        "    name = 'half'\n"
        "class Alone:\n"
        "    name = 'alone'\n"
        "class Calm:\n"
        "    def __init__(self, setting): self.setting = setting\n"
        "    def reset(self, seed): pass\n"
        "    def act(self, observation): return 0\n"
    )
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[netllm.tasks]\ntheirs = their_package:Theirs\nhalf = their_package:Half\n"
        "alone = their_package:Alone\n"
        "gone = their_package:Gone\n"
        "[netllm.policies]\nabr.calm = their_package:Calm\nabr.lost = no_such_module:Lost\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.task("theirs").name == "theirs"
    assert registry.policy("abr", "calm", "a setting").setting == "a setting"
    assert "calm" in registry.policies("abr")
    assert "calm" not in registry.policies("theirs")
    broken = {
        "half": r"'half' \(their_package:Half\) of the package their-package.*"
        "lacks encoder, environment, episodes, head, metrics, presets",
        "alone": r"'alone' .* must be a subclass of netllm.task.PoolTask or SupervisedTask",
        "gone": r"'gone' .*cannot be loaded: .*'Gone'\. Correct or uninstall it",
    }
    for name, says in broken.items():
        with pytest.raises(ValueError, match=says):
            registry.task(name)
    with pytest.raises(ValueError, match=r"'abr.lost' .*netllm.policies.*'no_such_module'"):
        registry.policy("abr", "lost", "a setting")
    code, out, err = netllm("list")
    assert code == 0
    assert all(f"{name}: measured by" in out for name in (*TASKS, "theirs"))
    assert "half: 'half' (their_package:Half)" in err
    assert netllm("list", "half")[0] == 2


def test_a_colon_and_a_file_give_a_learned_rival_its_weights(tmp_path):
    shipped = registry.policy("abr", "ppo", (place := registry.task("abr").setting("synthetic")))
    shipped.actor.save(tmp_path / "mine.npz")
    mine = registry.policy("abr", "ppo:mine.npz", place, home=tmp_path)
    assert mine.actor is not shipped.actor
    np.testing.assert_array_equal(mine.actor.mean, shipped.actor.mean)


@pytest.mark.parametrize(
    ("task", "name"),
    [("vp", "hold-last:mine.npz"), ("abr", "bba:mine.npz"), ("cjs", "fair:mine.safetensors")],
)
def test_weights_for_a_policy_without_any_are_refused(task, name):
    with pytest.raises(ValueError, match=r"takes no weights, got mine\..*train-baseline"):
        registry.policy(task, name, setting=None)


def test_weights_that_are_not_there_are_said_with_how_to_make_some(tmp_path):
    place = registry.task("vp").setting("synthetic")
    with pytest.raises(registry.Unbuildable, match=r"gone\.npz.*train-baseline vp gru"):
        registry.policy("vp", "gru:gone.npz", place, home=tmp_path)
    with pytest.raises(ValueError, match=r"'grru'. Did you mean gru"):
        registry.policy("vp", "grru:gone.npz", place, home=tmp_path)


def test_own_policies_are_found_in_the_working_directory():
    policy = registry.policy("abr", "own_policies:second", setting=None)
    assert policy.act({"level": [0, 0, 0]}).tolist() == [1, 1, 1]


def test_own_policies_are_found_in_the_folder_that_is_named(tmp_path):
    (tmp_path / "found_elsewhere.py").write_text(
        "from netllm_baselines.abr import BBA\n\n\nclass Mine(BBA):\n    pass\n"
    )
    place = registry.task("abr").setting("synthetic")
    own = registry.policy("abr", "found_elsewhere:Mine", place, home=tmp_path)
    assert type(own).__name__ == "Mine"


def test_an_own_policy_that_cannot_act_is_refused():
    with pytest.raises(ValueError, match=r"own_policies:stubborn' built a Stubborn without act"):
        registry.policy("abr", "own_policies:stubborn", setting=None)


def test_a_missing_module_is_named():
    with pytest.raises(ValueError, match="needs the module 'no_such_module'"):
        registry.policy("abr", "no_such_module:policy", setting=None)


def test_a_policy_named_by_its_file_is_told_its_module(tmp_path):
    with pytest.raises(ValueError, match=r"not a file: in the file's folder write mine:Mine\."):
        registry.policy("abr", "./pol/mine.py:Mine", setting=None, home=tmp_path)


def test_a_misspelt_callable_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean lowest"):
        registry.policy("abr", "own_policies:lowst", setting=None)


def test_an_empty_registry_says_so():
    assert "Known: none" in str(registry.unknown("thing", "x", []))


def test_settings_keep_their_names():
    task = registry.task("abr")
    assert {"default", "synthetic", "unseen-video"} <= set(task.settings())
    assert isinstance(task.setting("synthetic", data=None).name, str)


def test_a_task_is_found_by_its_name_again_and_again():
    import netllm

    assert [netllm.task("abr").name for _ in range(2)] == ["abr", "abr"]
    assert netllm.task.Metric is not None
