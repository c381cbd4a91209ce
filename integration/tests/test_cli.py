import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from netllm.cli import main
from netllm.commands.options import overrides

PROGRAM = Path(sys.executable).with_name("netllm")
SMALL = ("--setting", "synthetic", "--episodes", "4")


def run_apart(*arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, **options)


def test_help_loads_nothing_heavy():
    heavy = ["numpy", "jaxtyping", "pyarrow", "torch", "transformers", "numba", "netllm_sims"]
    script = (
        "import sys; from netllm.cli import main; code = main(['--help']); "
        f"print(code, [m for m in {heavy} if m in sys.modules])"
    )
    done = run_apart(sys.executable, "-c", script)
    assert "rl-collect" in done.stdout
    assert done.stdout.strip().endswith("0 []")


@pytest.mark.parametrize("module", ["netllm", "netllm.cli", "netllm.registry", "netllm.abr"])
def test_importing_loads_neither_torch_nor_a_simulator(module):
    heavy = ["torch", "transformers", "numba", "matplotlib", "netllm_sims", "scipy"]
    script = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert run_apart(sys.executable, "-c", script).stdout.strip() == "[]"


def test_testing_policies_loads_no_torch():
    script = (
        "import sys; from netllm.cli import main; "
        "main('test abr --policy own_policies:lowest --setting synthetic --json'.split());"
        "sys.exit('torch' in sys.modules)"
    )
    assert run_apart(sys.executable, "-c", script).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ("rl-collect",),
        ("adapt",),
        ("improve",),
        ("test",),
        ("quickstart",),
        ("train-baseline",),
        ("list",),
        ("completion",),
        ("backbone", "pull"),
        ("backbone", "list"),
        ("pool", "info"),
        ("pool", "export"),
        ("data", "fetch"),
        ("data", "check"),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(netllm, command):
    code, out, _ = netllm(*command, "--help")
    assert code == 0
    assert f"netllm {' '.join(command)}" in out


def test_every_field_of_the_recipe_is_a_flag(netllm):
    from dataclasses import fields

    from netllm.commands.recipe_flags import Recipe

    _, out, _ = netllm("adapt", "--help")
    for field in fields(Recipe):
        assert f"--{field.name.replace('_', '-')}" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tset",), "test"),
        (("test",), "TASK"),
        (("test", "abr", "--polcy", "bba"), "--policy"),
        (("test", "abr", "--episodes", "many"), "many"),
        (("test", "abc"), "Did you mean abr"),
        (("test", "abr", "--policy", "bbba"), "Did you mean bba"),
        (("test", "abr", "--setting", "defualt"), "Did you mean default"),
        (("test", "abr", "--set", "latencys=1"), "Did you mean latency_s"),
        (("test", "abr", "--set", "latency_s"), "FIELD=VALUE"),
        (("test", "abr", "--set", "data=1"), "`data` cannot be set here"),
        (("test", "abr", "--set", "traces=2024"), "2024: there is no such folder of traces"),
        (("test", "abr", "--set", "traces=2024-01-01"), "2024-01-01: there is no such folder"),
        (("test", "abr", "--set", "traces="), "Is a variable of the shell not set?"),
        (("test", "abr", "--set", "latency_s="), "`latency_s`"),
        (("test", "abr", "--set", "video=1"), "no such folder of chunk sizes (`video`)"),
        (("test", "abr", "--set", "rates_kbps=300"), "`rates_kbps` must be at least two"),
        (("test", "vp", "--set", "frames=1"), "(`frames`)"),
        (("test", "vp", "--set", "fov_deg=110"), "`fov_deg` must be two angles"),
        (("test", "vp", "--set", "gaps=1"), "`gaps`: Unknown way with gaps '1'"),
        (("test", "vp", "--set", "users=83"), "`videos` and `users` choose"),
        (("test", "cjs", "--set", "jobs=3"), "(`jobs`)"),
        (("test", "cjs", "--set", "num_jobs=abc"), "`num_jobs` must be a number, got 'abc'"),
        (("test", "cjs", "--set", "luck=-1"), "`luck` must be a whole number >= 0, got -1"),
        (
            ("train-baseline", "abr", "ppo", "--out", "x", "--train", "out=1"),
            "`out` cannot be set here",
        ),
        (
            ("train-baseline", "abr", "ppo", "--out", "x", "--train", "hidden"),
            "--train needs FIELD=VALUE",
        ),
        (("train-baseline", "abr", "ppo", "--out", "x"), "`--out` must end with .npz or"),
        (("train-baseline", "vp", "gru", "--out", "x.npz", "--steps", "0"), "`--steps` must be at"),
        (("test", "abr", "--episodes", "0"), "at least 1"),
        (("test", "abr", "--jobs", "0"), "`jobs` must be at least 1, or -1"),
        (
            ("test", "abr", "--out", "own_policies.py"),
            "must be a folder, got a file",
        ),
        (("test", "abr", "--policy", ":lowest"), "Unknown abr policy ':lowest'"),
        (("test", "abr", "--policy", "own_policies:Dice"), "with the setting and nothing else"),
        (
            ("test", "abr", "--policy", "own_policies:failing", *SMALL),
            "no level for you It was 'own_policies:failing' in setting 'synthetic'. Set NETLLM_",
        ),
        (("test", "abr", "--checkpoint", "nothing"), "holds no checkpoint"),
        (("test", "abr", "--setting", "paper-split"), "NETLLM_DATA"),
        (("test", "abr", "--data", "nowhere"), "nowhere"),
        (("test", "abr", "--seeds", "3", "-1"), "`seed` must be a whole number >= 0, got -1"),
        (("test", "cjs", "--seeds", "-1"), "`seed` must be a whole number >= 0, got -1"),
        (("rl-collect", "abr", "--policy", "bba", "--out", "x", "--epsilon", "2"), "[0, 1]"),
        (("rl-collect", "abr", "--policy", "bba", "--out", "x", "--best-of", "0"), "`best_of`"),
        (("rl-collect", "abr", "--policy", "bba", "--out", "."), "must be new, empty or a pool"),
        (
            ("rl-collect", "abr", "--policy", "bba", "--out", "own_policies.py"),
            "must be new, empty or a pool",
        ),
        (("rl-collect", "abr", "--policy", "bba", "--out", "x", "--jobs", "0"), "`jobs` must be"),
        (("rl-collect", "abr", "--policy", "bba", "--out", "x", "--seed", "-1"), "`seed` must be"),
        (("adapt", "abr", "--out", "x"), "--pool"),
        (("adapt", "abr", "--out", "x", "--pool", "nothing"), "nothing"),
        (("adapt", "abr", "--out", "x", "--rnk", "3"), "--rank"),
        (("adapt", "abr", "--out", "x", "--rank", "0"), "rank"),
        (("adapt", "abr", "--out", "x", "--learning-rate", "inf"), "must be finite, got inf"),
        (("adapt", "abr", "--out", "x", "--target-return", "nan"), "finite and within"),
        (("adapt", "abr", "--out", "x", "--target-return", "1e39"), "±3.403e+38, got 1e+39"),
        (("adapt", "vp", "--out", "x", "--target-return", "5"), "takes no target return"),
        (("adapt", "vp", "--out", "x", "--pool", "x"), "takes no pool"),
        (("train-baseline", "abr", "pop", "--out", "x"), "Did you mean ppo"),
        (("pool", "info", "nothing"), "nothing"),
        (("backbone", "pull", "smollm"), "smollm2-135m"),
    ],
)
def test_a_users_mistake_is_one_clear_message_and_exit_code_2(netllm, arguments, says):
    code, out, err = netllm(*arguments)
    assert code == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in out + err


def test_a_folder_of_traces_may_be_called_2024(netllm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "mine").write_text("0 1\n99 2\n")
    chosen = ("--set", "traces=2024", "--json")
    code, out, _ = netllm("test", "abr", "--policy", "bba", *chosen)
    assert code == 0
    (result,) = json.loads(out)["results"]
    assert [one["id"] for one in result["episodes"]] == ["mine"]


def test_json_is_one_document_of_the_documented_shape(netllm):
    five = ("--setting", "synthetic", "--episodes", "5")
    code, out, _ = netllm("test", "abr", "--policy", "own_policies:lowest", *five, "--json")
    document = json.loads(out)
    assert code == 0
    (result,) = document["results"]
    assert result["task"] == "abr"
    assert result["setting"] == "synthetic"
    assert result["policy"] == "own_policies:lowest"
    assert result["checkpoint"] is None
    assert set(result["metrics"]) == {"qoe", "bitrate_mbps", "rebuffer_s", "smoothness_mbps"}
    low, high = result["metrics"]["qoe"]["ci95"]
    assert low <= result["metrics"]["qoe"]["mean"] <= high
    assert len(result["episodes"]) == 5
    assert set(result["episodes"][0]) == {"id", "seed", "cluster", *result["metrics"]}
    assert result["seconds"] > 0
    assert result["decisions_per_s"] == pytest.approx(5 * 47 / result["seconds"])
    assert document["provenance"]["data"] == {"synthetic": "synthetic"}
    assert document["provenance"]["versions"]["netllm-sims"]


def test_without_real_data_the_output_says_so(netllm):
    _, out, _ = netllm("test", "abr", "--policy", "own_policies:lowest", "--episodes", "2")
    assert "default has seeded generators of traces and video in place of real data" in out


def test_a_sequential_policy_runs_alone_in_file_order_and_the_output_says_so(netllm):
    policies = ("--policy", "own_policies:carrying", "own_policies:dice")
    _, out, _ = netllm("test", "abr", *policies, *SMALL, "--seed", "5")
    assert "own_policies:carrying carries state or a random stream" in out
    assert "own_policies:dice carries" not in out


def test_results_do_not_depend_on_the_number_of_jobs(netllm):
    policies = ("--policy", "own_policies:dice", "own_policies:carrying")
    command = ("test", "abr", *policies, "--setting", "synthetic", "--seeds", "1", "2", "--json")
    one, two = (json.loads(netllm(*command, "--jobs", jobs)[1]) for jobs in (1, 2))
    for ours, theirs in zip(one["results"], two["results"], strict=True):
        assert ours["episodes"] == theirs["episodes"]
        assert ours["metrics"] == theirs["metrics"]
    assert [row["seed"] for row in one["results"][0]["episodes"]] == [1] * 100 + [2] * 100


def test_the_seed_decides_what_a_random_policy_does(netllm):
    command = ("test", "abr", "--policy", "own_policies:dice", *SMALL, "--json", "--seed")
    first, again, other = (json.loads(netllm(*command, seed)[1]) for seed in (1, 1, 2))
    assert first["results"][0]["metrics"] == again["results"][0]["metrics"]
    assert first["results"][0]["metrics"] != other["results"][0]["metrics"]


def test_a_seed_that_is_named_twice_counts_once(netllm):
    command = ("test", "abr", "--policy", "own_policies:dice", *SMALL, "--json", "--seeds")
    once, twice = (json.loads(netllm(*command, *seeds)[1]) for seeds in ("3", "33"))
    assert once["results"][0]["episodes"] == twice["results"][0]["episodes"]


def test_an_interrupted_command_says_so():
    script = (
        "import sys, own_policies; from netllm.cli import main\n"
        "def act(*_): raise KeyboardInterrupt\n"
        "own_policies.Level.act = act\n"
        "sys.exit(main('test abr --policy own_policies:lowest'.split()))"
    )
    done = run_apart(sys.executable, "-c", script)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "Interrupted.")


def test_set_overrides_a_field_of_the_setting(netllm):
    # At the lowest level, with stalls for nothing, QoE is the ladder's first rate.
    command = ("test", "abr", "--policy", "own_policies:lowest", *SMALL, "--json")
    rates = ("--set", "rates_kbps=1,2,3,4,5,6", "--set", "rebuffering=0")
    document = json.loads(netllm(*command, *rates)[1])
    assert document["results"][0]["metrics"]["qoe"]["mean"] == pytest.approx(0.001)
    assert document["provenance"]["overrides"]["rates_kbps"] == [1, 2, 3, 4, 5, 6]


def test_out_keeps_results_and_plots(netllm, tmp_path):
    policies = ("--policy", "own_policies:lowest", "own_policies:second")
    code, _, _ = netllm("test", "abr", *policies, *SMALL, "--out", tmp_path / "report")
    assert code == 0
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"results.json", "cdf.png", "bars.png", "recipe.toml"}


def test_a_full_disk_while_drawing_names_the_plot_and_leaves_no_half_of_it(netllm, tmp_path, room):
    out = tmp_path / "report"
    command = ("test", "abr", "--policy", "own_policies:lowest", *SMALL, "--out")
    netllm(*command, tmp_path / "before")  # compiled code and fonts are kept in files too
    with room(9_000):
        code, _, err = netllm(*command, out)
    assert code == 1
    assert "Free space" in err
    assert str(out / "cdf.png") in err
    assert [path.name for path in out.iterdir()] == ["results.json"]


def test_values_of_set_are_read_as_toml_lists_or_text():
    read = overrides(["a=0.5", "b=true", "c=[1, 2]", "d=300,750", "e=my/folder", "f-g=3"])
    assert read == {"a": 0.5, "b": True, "c": [1, 2], "d": [300, 750], "e": "my/folder", "f_g": 3}


def test_a_field_cannot_be_set_twice():
    with pytest.raises(ValueError, match="twice"):
        overrides(["a=1", "a=2"])


def test_a_full_disk_is_exit_code_1_without_traceback_and_nothing_half_visible(tmp_path):
    # No file may grow beyond a kilobyte: the same kind of error as a full disk.
    script = (
        "import resource, sys; from netllm.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "pool"
    command = ("rl-collect", "abr", "--policy", "own_policies:dice", *SMALL, "--out")
    assert main([*command, str(tmp_path / "before")]) == 0  # compiled code is kept in files too
    done = run_apart(sys.executable, "-c", script, *command, str(out))
    assert done.returncode == 1
    assert "Free space" in done.stderr
    assert str(out) in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.glob("shard-*"))


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("backbone", "list"),
        ("test", "abr", "--policy", "bba", *SMALL, "--json", "--quiet"),
    ],
)
def test_a_reader_that_leaves_early_ends_the_program_quietly(command):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([PROGRAM, *command], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b""


def test_a_pipe_that_breaks_elsewhere_is_still_told(netllm, monkeypatch):
    def broken(*arguments, **options):
        raise BrokenPipeError("the policy's server has gone")

    monkeypatch.setattr("netllm.verbs.test.test", broken)
    code, _, err = netllm("test", "abr")
    assert code == 1
    assert "the policy's server has gone" in err


def test_the_listing_names_settings_policies_and_recipe(netllm):
    code, out, _ = netllm("list", "abr")
    assert code == 0
    assert "setting default:" in out
    assert "hindsight" in out
    assert "train-baseline: comyco, fugu, ppo, ppo-wide" in out
    assert "learning_rate=" in out


def test_the_backbones_are_listed(netllm):
    code, out, _ = netllm("backbone", "list")
    assert code == 0
    assert "smollm2-135m" in out
