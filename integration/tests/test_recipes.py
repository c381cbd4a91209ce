"""Options of a command in a TOML file, and the file that repeats a run."""

import json
import tomllib

import pytest
from netllm.commands.recipe_files import write_recipe
from netllm_adapt import Pool

COLLECT = ("rl-collect", "abr", "--setting", "synthetic", "--policy", "own_policies:dice")
TINY = (
    *("--steps", "3", "--batch", "2", "--layers", "1", "--rank", "2", "--dtype", "float32"),
    *("--validate-every", "3", "--validation", "2", "--backbone", "tiny-random"),
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    import netllm

    path = tmp_path_factory.mktemp("recipes") / "pool"
    changes = {"set": {"latency_s": 0.25}, "setting": "synthetic", "episodes": 3}
    return netllm.rl_collect("abr", policy="bba", out=path, **changes)


def repeated(netllm, command, out):
    """The folder of the same run, begun with nothing but what the first one wrote."""
    other = out.with_name("other")
    code, _, err = netllm(*command, "--recipe", out / "recipe.toml", "--out", other)
    assert code == 0, err
    return other


def test_a_collection_is_repeated_by_the_recipe_that_it_wrote(netllm, tmp_path):
    flags = ("--epsilon", "0.2", "--episodes", "4", "--seed", "3", "--no-soft", "--relabel", "bba")
    out = tmp_path / "pool"
    code, _, err = netllm(*COLLECT, *flags, "--set", "rates_kbps=1,2,3,4,5,6", "--out", out)
    assert code == 0, err
    other = repeated(netllm, ("rl-collect", "abr"), out)
    ours, theirs = Pool(out), Pool(other)
    assert len(ours) == 4
    for one, again in zip(ours, theirs, strict=True):
        assert one.id == again.id
        assert one.actions.tolist() == again.actions.tolist()
        assert one.labels.tolist() == again.labels.tolist()
        assert one.rewards.tolist() == again.rewards.tolist()
    (about,), (again,) = (p.provenance["collections"] for p in (ours, theirs))
    assert about["overrides"] == again["overrides"] == {"rates_kbps": [1, 2, 3, 4, 5, 6]}
    assert (other / "recipe.toml").read_bytes() == (out / "recipe.toml").read_bytes()


def test_a_pool_keeps_one_recipe_for_each_of_its_collections(netllm, tmp_path):
    out = tmp_path / "pool"
    for seed in ("1", "2"):
        command = (*COLLECT, "--episodes", "2", "--out", out, "--append", "--seed", seed)
        assert netllm(*command)[0] == 0
    seeds = [
        tomllib.loads((out / f"{name}.toml").read_text())["seed"] for name in ("recipe", "recipe-2")
    ]
    assert seeds == [1, 2]


def test_a_run_is_repeated_by_the_recipe_that_it_wrote(netllm, pool, tmp_path):
    out = tmp_path / "run"
    flags = ("--set", "latency_s=0.5", "rtt_s=0.1", "--learning-rate", "0.003")
    code, _, err = netllm("adapt", "abr", "--pool", pool.path, *TINY, *flags, "--out", out)
    assert code == 0, err
    other = repeated(netllm, ("adapt", "abr"), out)
    weights = sorted(file.name for file in (out / "best").glob("*.safetensors"))
    assert len(weights) == 3
    for name in weights:
        assert (other / "best" / name).read_bytes() == (out / "best" / name).read_bytes()
    settings = [json.loads((run / "settings.json").read_text()) for run in (out, other)]
    assert settings[0] == settings[1]
    assert settings[0]["recipe"]["learning_rate"] == 0.003


@pytest.mark.parametrize("wanted", [True, False])
def test_a_recipe_of_before_there_was_a_choice_of_trackers_is_read(netllm, pool, tmp_path, wanted):
    pytest.importorskip("tensorboard", reason="needs TensorBoard")
    before = tmp_path / "before.toml"
    before.write_text(f'pool = "{pool.path}"\ntensorboard = {str(wanted).lower()}\n')
    out = tmp_path / "run"
    code, _, err = netllm("adapt", "abr", "--recipe", before, *TINY, "--out", out)
    assert code == 0, err
    assert (out / "tensorboard").exists() == wanted
    assert tomllib.loads((out / "recipe.toml").read_text()).get("tracker") == (
        "tensorboard" if wanted else None
    )


def test_a_test_is_repeated_by_the_recipe_that_it_wrote(netllm, tmp_path):
    out = tmp_path / "report"
    names = ["own_policies:dice", "own_policies:second"]
    command = ("test", "abr", "--policy", *names)
    code, _, err = netllm(*command, "--setting", "synthetic", "--seeds", "4", "5", "--out", out)
    assert code == 0, err
    other = repeated(netllm, ("test", "abr"), out)
    ours, theirs = (json.loads((o / "results.json").read_text()) for o in (out, other))
    assert [one["policy"] for one in ours["results"]] == [
        "own_policies:dice",
        "own_policies:second",
    ]
    for one, again in zip(ours["results"], theirs["results"], strict=True):
        assert one["episodes"] == again["episodes"]
        assert one["metrics"] == again["metrics"]


def test_the_task_may_stand_in_the_recipe_alone(netllm, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'command = "test"\ntask = "abr"\npolicy = ["own_policies:lowest"]\n'
        'setting = "synthetic"\nepisodes = 2\n[set]\nrates_kbps = [1, 2, 3, 4, 5, 6]\n'
        "rebuffering = 0\n"
    )
    code, out, err = netllm("test", "--recipe", recipe, "--json")
    assert code == 0, err
    assert json.loads(out)["results"][0]["metrics"]["qoe"]["mean"] == pytest.approx(0.001)


def test_flags_win_over_the_recipe_field_by_field(netllm, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'policy = ["bba"]\nsetting = "synthetic"\nepisodes = 2\n'
        "[set]\nlatency_s = 0.5\nrtt-s = 0.2\n"
    )
    command = ("test", "abr", "--recipe", recipe, "--policy", "own_policies:lowest")
    code, out, err = netllm(*command, "--set", "latency-s=0.1", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert [one["policy"] for one in document["results"]] == ["own_policies:lowest"]
    assert document["provenance"]["overrides"] == {"latency_s": 0.1, "rtt_s": 0.2}


def test_the_recipe_wins_over_the_environment(netllm, tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_DATA", str(tmp_path))
    recipe = tmp_path / "mine.toml"
    recipe.write_text('data = "nowhere"\n')
    code, _, err = netllm("test", "abr", "--recipe", recipe)
    assert code == 2
    assert "nowhere" in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "# mine\nepisode = 2\n",
            "mine.toml:2: Unknown key of a recipe for `netllm test` 'episode'",
        ),
        ("episode = 2\n", "Did you mean episodes"),
        ("\n\n[sets]\na = 1\n", "mine.toml:3: Unknown key"),
        ("rank = 3\n", "mine.toml:1: Unknown key of a recipe for `netllm test` 'rank'"),
        ("out = 'x'\n", "mine.toml:1: Unknown key of a recipe for `netllm test` 'out'"),
        ("jobs = 2\n", "mine.toml:1: Unknown key"),
        ("trust_backbone = true\n", "mine.toml:1: Unknown key"),
        ("part = 'test'\ntask = 'cjs'\n", "mine.toml:2: the recipe is for 'cjs', not for 'abr'"),
        ("command = 'adapt'\n", "mine.toml:1: the recipe is for 'adapt', not for 'test'"),
        ("set = 3\n", "mine.toml:1: `set` must be a table"),
        ("[set]\nlatencys = 1\n", "Did you mean latency_s"),
        ("episodes = [1, 2]\n", "mine.toml:1: `episodes` must be one value, got [1, 2]"),
        ("policy = [['bba']]\n", "mine.toml:1: `policy` must be one value or a list of values"),
        ("episodes = 'many'\n", 'unable to convert "many" into int'),
        ("episodes = \n", "mine.toml: must be TOML, but"),
        ("a = 1\na = 2\n", "line 2"),
        ("a = " + "[" * 9_000, "mine.toml: must be TOML"),
        ("a = '\x00'", "mine.toml: must be TOML"),
        ("episodes = " + "9" * 5_000, "mine.toml: "),
        ("#" * 1_000_001, "mine.toml: "),
    ],
    ids=lambda text: text[:30].encode("unicode_escape").decode(),
)
def test_what_is_wrong_in_a_recipe_is_told_with_file_and_line(netllm, tmp_path, content, says):
    (tmp_path / "mine.toml").write_text(content)
    code, out, err = netllm("test", "abr", "--recipe", tmp_path / "mine.toml")
    assert code == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in out + err


def test_a_recipe_that_is_not_there_or_no_text_is_named(netllm, tmp_path):
    for name, content in (("none.toml", None), ("bytes.toml", b"\xff\xfe")):
        if content:
            (tmp_path / name).write_bytes(content)
        code, _, err = netllm("test", "abr", "--recipe", tmp_path / name)
        assert code == 2
        assert name in err


def test_text_numbers_and_lists_are_read_as_they_were_written(tmp_path):
    table = ("number=2024", 'text="2024"', "list=[300, 750]", "rate=1e-07", "on=true", "empty=")
    options = {"task": "abr", "set_": table, "policy": ("a", 'b"c'), "out": tmp_path, "data": None}
    write_recipe(tmp_path / "recipe.toml", "test", options)
    content = tomllib.loads((tmp_path / "recipe.toml").read_text())
    assert content == {
        "command": "test",
        "task": "abr",
        "policy": ["a", 'b"c'],
        "set": {
            "number": 2024,
            "text": "2024",
            "list": [300, 750],
            "rate": 1e-07,
            "on": True,
            "empty": "",
        },
    }


def test_a_flag_that_only_another_tasks_recipe_has_is_refused(netllm, tmp_path):
    code, _, err = netllm(
        "adapt", "abr", "--pool", tmp_path, "--out", tmp_path / "o", "--multimodal"
    )
    assert code == 2
    assert "recipe of abr has no `multimodal`" in err
