"""A checkpoint is tested where it was adapted unless the command says otherwise."""

import json
import shlex

import netllm as library
import pytest

SMALL = [
    *("--backbone", "tiny-random", "--steps", "2", "--batch", "2", "--layers", "1", "--rank", "2"),
    *("--dtype", "float32", "--validate-every", "2", "--validation", "2"),
]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Own traces and an own video with three rates, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("own world") / "my data"
    for name in ("traces", "film"):
        (folder / name).mkdir(parents=True)
    for number in range(6):
        lines = "".join(f"{10 * t} {1 + number + t % 3}\n" for t in range(30))
        (folder / "traces" / f"{number}.txt").write_text(lines)
    for level in range(3):
        (folder / "film" / f"video_size_{level}").write_text(f"{(level + 1) * 100_000}\n" * 12)
    return folder


@pytest.fixture(scope="module")
def run(mine, tmp_path_factory):
    """A run on own data, and what its command printed."""
    from contextlib import redirect_stdout
    from io import StringIO

    from netllm.cli import main

    out = tmp_path_factory.mktemp("run")
    own = [f"traces={mine / 'traces'}", f"video={mine / 'film'}", "rates_kbps=300,900,2000"]
    own = [word for one in [*own, "latency_s=0.3", "alter=0.5"] for word in ("--set", one)]
    collect = ["rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", *own]
    said = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.delenv("NETLLM_DATA", raising=False)
        assert main([*collect, "--episodes", "4", "--out", str(out / "pool")]) == 0
        learn = ["adapt", "abr", "--pool", str(out / "pool"), "--out", str(out / "run")]
        assert main([*learn, *SMALL]) == 0
    return out / "run", said.getvalue().splitlines()[-1]


def test_the_printed_command_works_as_pasted_and_tests_the_same_world(netllm, run, mine):
    program, *words = shlex.split(run[1].partition("Test it: ")[2])
    assert program == "netllm"
    code, out, err = netllm(*words, "--json")
    assert code == 0, err
    about = json.loads(out)["provenance"]
    assert about["overrides"] == {
        "traces": "traces",
        "video": "film",
        "rates_kbps": [300, 900, 2000],
        "latency_s": 0.3,
    }
    assert list(about["data"]) == ["synthetic"]
    (note,) = (one for one in about["notes"] if one.startswith("Tested where"))
    assert "in synthetic with its own --set rates_kbps=[300, 900, 2000] latency_s=0.3." in note
    assert not any("was adapted with" in one or "other data" in one for one in about["notes"])


def test_own_data_that_are_not_here_are_asked_for(netllm, run, mine, monkeypatch):
    code, _, err = netllm("test", "abr", "--checkpoint", run[0])
    assert code == 2
    assert "was adapted on traces traces (6 files, sha256 " in err
    assert "--set traces=PATH" in err
    monkeypatch.chdir(mine)
    code, out, err = netllm("test", "abr", "--checkpoint", run[0], "--json")
    assert code == 0, err
    assert json.loads(out)["results"][0]["data"].startswith("traces (6 files, sha256 ")


def test_what_the_command_says_comes_first(run, mine):
    own = {"traces": str(mine / "traces"), "video": str(mine / "film")}
    report = library.test("abr", checkpoint=run[0], set={**own, "latency_s": 0.0})
    assert report.provenance["overrides"]["latency_s"] == 0.0
    assert "was adapted with --set latency_s=0.3" in " ".join(report.notes)
    named = library.test(
        "abr", checkpoint=run[0], setting="synthetic", set={**own, "rates_kbps": "300,900,2000"}
    )
    assert "latency_s" not in named.provenance["overrides"]
    assert not any(note.startswith("Tested where") for note in named.notes)


def test_without_a_checkpoint_the_default_is_tested(run):
    report = library.test("abr", policy="own_policies:lowest", episodes=1)
    assert report.results[0].setting == "default"
    assert report.provenance["overrides"] == {}


def test_a_ladder_that_does_not_fit_a_checkpoint_is_told_as_such(netllm, run):
    code, _, err = netllm("test", "abr", "--checkpoint", run[0], "--setting", "synthetic")
    assert code == 2
    assert "This model answers with one of 3 rates, but the ladder `rates_kbps`" in err
    assert "has 6 (300, 750, 1200, 1850, 2850, 4300 kbit/s)" in err


def test_a_ladder_that_does_not_fit_a_pool_is_told_as_such(netllm, run, tmp_path):
    learn = ("adapt", "abr", "--pool", run[0].with_name("pool"), "--out", tmp_path / "run")
    code, _, err = netllm(*learn, *SMALL, "--setting", "synthetic", "--set", "latency_s=0.3")
    assert code == 2
    assert "was collected with one of 3 rates, but the ladder `rates_kbps`" in err
