"""What commands print: JSON, progress, warnings, errors."""

import json
import logging
import re
import subprocess
import sys
import typing

import pytest
from netllm import cli
from netllm.commands import progress_and_warnings
from netllm.commands.options import Output
from netllm.commands.printed_answer import Answer

SMALL = ("--policy", "own_policies:lowest", "--setting", "synthetic", "--episodes", "2")


def commands():
    """Every command: its words and its function."""
    for parent, name, *_ in cli._COMMANDS:
        words = (*parent.name, name) if parent is not cli.app else (name,)
        yield words, parent[name].default_command


@pytest.mark.parametrize(
    ("words", "function"), [pytest.param(*one, id=" ".join(one[0])) for one in commands()]
)
def test_every_command_has_the_same_options_for_its_output_and_answers_alike(words, function):
    hints = typing.get_type_hints(function)
    assert hints["output"] is Output
    assert hints["return"] is Answer


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    import netllm

    path = tmp_path_factory.mktemp("output") / "pool"
    return netllm.rl_collect("abr", policy="bba", setting="synthetic", episodes=2, out=path).path


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (("list", "abr"), {"tasks"}),
        (("backbone", "list"), {"backbones"}),
        (("test", "abr", *SMALL), {"results", "comparisons", "provenance"}),
        (("rl-collect", "abr", *SMALL, "--out", "{new}"), {"task", "episodes", "provenance"}),
        (("pool", "info", "{pool}"), {"task", "episodes", "provenance"}),
        (("pool", "export", "{pool}", "{new}.csv"), {"pool", "file"}),
        (("data", "check", "--data", "{pool}"), {"folder", "sources", "files"}),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_json_is_one_document_and_nothing_else(netllm, pool, tmp_path, command, keys):
    words = [word.format(pool=pool, new=tmp_path / "new") for word in command]
    _, out, _ = netllm(*words, "--json")
    assert keys <= json.loads(out).keys()


def apart(*words):
    """Run the program with standard error in a pipe."""
    command = [sys.executable, "-m", "netllm", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_progress_is_whole_lines_where_nobody_watches(tmp_path):
    done = apart("rl-collect", "abr", *SMALL, "--out", str(tmp_path / "pool"))
    assert done.returncode == 0
    assert "\r" not in done.stderr
    lines = [one for one in done.stderr.splitlines() if one.startswith("collect: ")]
    assert lines[0].startswith("collect: 0/2 episode")
    assert lines[-1].startswith("collect: 2/2 episode")
    assert all(re.match(r"collect: \d/2 episode in \d\d:\d\d, \S+ to go", line) for line in lines)


def test_quiet_leaves_nothing_but_errors_on_standard_error(tmp_path):
    command = ("rl-collect", "abr", *SMALL, "--quiet", "--out", str(tmp_path / "pool"))
    assert apart(*command).stderr == ""
    again = apart(*command)
    assert again.returncode == 2
    assert again.stderr.startswith("netllm: error: ")


@pytest.mark.parametrize(("every_s", "count"), [(0.0, 12), (1e9, 2)])
def test_a_line_of_progress_comes_once_in_a_while(capsys, monkeypatch, every_s, count):
    monkeypatch.setattr(progress_and_warnings.Lines, "every_s", every_s)
    with progress_and_warnings.Lines(total=10, desc="adapt", unit="step", disable=None) as bar:
        for _ in range(10):
            bar.update()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == count
    assert lines[0].startswith("adapt: 0/10 step in 00:00")
    assert lines[-1].startswith("adapt: 10/10 step in 00:00")


def test_a_postfix_and_a_description_alone_print_no_line(capsys):
    bar = progress_and_warnings.Lines(total=1_000, desc="adapt", unit="step")
    for number in range(50):
        bar.update()
        bar.set_postfix(loss=f"{number}")
        bar.set_description("adapt, best qoe 1.0")
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[-1].startswith("adapt, best qoe 1.0: 50/1000 step")
    assert lines[-1].endswith("loss=49")


def test_messages_of_all_packages_have_one_style(capsys):
    log = logging.getLogger("netllm_adapt.somewhere")
    with progress_and_warnings.told(quiet=False, verbose=False):
        log.info("good to know")
        log.warning("units look odd")
        progress_and_warnings.step("now this")
    assert capsys.readouterr().err == "netllm: warning: units look odd\nnow this\n"
    with progress_and_warnings.told(quiet=False, verbose=True):
        log.info("good to know")
    assert capsys.readouterr().err == "good to know\n"
    with progress_and_warnings.told(quiet=True, verbose=False):
        log.warning("units look odd")
        progress_and_warnings.step("now this")
    assert capsys.readouterr().err == ""


def test_quiet_and_verbose_exclude_each_other(netllm):
    code, _, err = netllm("list", "--quiet", "--verbose")
    assert code == 2
    assert err == "netllm: error: A command is --quiet or --verbose, not both. Leave one out.\n"


@pytest.mark.parametrize(
    ("words", "tried"),
    [
        (("tset",), "netllm"),
        (("pool", "info"), "netllm pool info"),
        (("test", "abr", "--polcy", "bba"), "netllm test"),
    ],
)
def test_bad_usage_names_the_help_to_read(netllm, words, tried):
    code, out, err = netllm(*words)
    assert (code, out) == (2, "")
    first, last = err.splitlines()
    assert first.startswith("netllm: error: ")
    assert last == f"Try: {tried} --help"


def test_an_error_of_ones_own_policy_keeps_its_name(netllm):
    words = ("test", "abr", "--policy", "own_policies:forgetful", "--setting", "synthetic")
    code, out, err = netllm(*words, "--quiet")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "netllm: error: KeyError: 'not_there'",
        "It was 'own_policies:forgetful' in setting 'synthetic'.",
        "Set NETLLM_TRACEBACK=1 to see where it happened.",
    ]


def test_the_package_runs_as_a_module():
    done = apart("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "0.1.0"


@pytest.mark.parametrize("command", ["rl-collect", "adapt", "test"])
def test_a_device_that_is_not_here_is_bad_usage(netllm, tmp_path, command):
    needed = () if command == "test" else ("--out", tmp_path / "out")
    asked = ("--checkpoint", "pretrained") if command != "adapt" else ()
    code, _, err = netllm(command, "abr", *needed, *asked, "--device", "cuda:99")
    assert code == 2
    assert "cuda:99" in err


def test_results_tell_the_device_on_which_a_checkpoint_decided(netllm):
    words = ("--setting", "synthetic", "--episodes", "1", "--device", "cpu", "--json")
    shipped = ("test", "abr", "--checkpoint", "pretrained", *words)
    code, out, err = netllm(*shipped)
    if code and "backbone pull" in err:
        pytest.skip("needs the backbone: netllm backbone pull smollm2-135m")
    assert json.loads(out)["provenance"]["device"] == "cpu"
    _, out, _ = netllm("test", "abr", *SMALL, "--json")
    assert "device" not in json.loads(out)["provenance"]
