"""Help of a command for one task, and completion in a shell."""

import re
import shutil
import subprocess
import sys

import pytest
from netllm import registry
from netllm.task.fields import fields_of


def flat(text):
    """The help without its boxes, each run of blanks as one."""
    return " ".join(re.sub(r"[╭╮╰╯│─]", " ", text).split())


def test_the_help_of_adapt_shows_the_recipe_of_the_task(netllm):
    code, general, _ = netllm("adapt", "--help")
    assert code == 0
    assert "Optimiser steps. [default: 600]" in flat(general)
    for task in registry.tasks():
        code, out, _ = netllm("adapt", task, "--help")
        best = registry.task(task).recipe("smollm2-135m")
        assert code == 0
        assert f"Optimiser steps. [default: {best.steps}]" in flat(out)
        assert f"[default: {best.average:g}]" in flat(out)
    other = flat(netllm("adapt", "abr", "--backbone", "tiny-random", "--help")[1])
    assert "Keep only the first blocks of the backbone. --dtype" in other
    own = flat(netllm("adapt", "abr", "--help")[1])
    assert "Keep only the first blocks of the backbone. [default: 12]" in own


def test_the_help_of_improve_shows_the_steps_of_a_round_and_the_usual_teacher(netllm):
    shown = flat(netllm("improve", "cjs", "--help")[1])
    best = registry.task("cjs").recipe("smollm2-135m")
    assert f"Optimiser steps. [default: {best.steps // 4}]" in shown
    assert "usual teacher unless given. [default: tuned-share]" in shown
    assert "[default: the checkpoint's own]" in shown
    assert "Policies of cjs (--teacher)" in shown


@pytest.mark.parametrize("command", ["rl-collect", "adapt", "improve", "test", "train-baseline"])
@pytest.mark.parametrize("task", registry.tasks())
def test_help_for_a_task_lists_its_settings_and_their_fields(netllm, command, task):
    code, out, _ = netllm(command, task, "--help")
    shown = flat(out)
    assert code == 0
    found = registry.task(task)
    for name in found.settings():
        assert f" {name} " in shown
    fields = fields_of(found.setting("synthetic", data=None))
    assert len(fields) > 6
    for field in fields:
        assert field.text
        assert f" {field.name} {field.text}" in shown


def test_help_of_real_players_lists_settings_and_policies(netllm):
    shown = flat(netllm("real", "abr", "--help")[1])
    assert "Policies of abr (--policy)" in shown
    assert "Settings of abr (--setting)" in shown
    assert " chunks " in shown


@pytest.mark.parametrize("task", registry.tasks())
def test_help_lists_exactly_the_fields_that_can_be_set(task):
    found = registry.task(task)
    with pytest.raises(ValueError, match="nonsense") as refused:
        found.setting("synthetic", data=None, nonsense=1)
    known = re.split(r"[\s,.]+", str(refused.value).partition("Known:")[2].strip(" ."))
    fields = {field.name for field in fields_of(found.setting("synthetic", data=None))}
    assert fields == set(known)


def test_units_and_defaults_stand_beside_the_fields(netllm):
    shown = flat(netllm("rl-collect", "cjs", "--help")[1])
    assert "moving_ms Time that an executor takes from one job to another. [default: 2000]" in shown
    shown = flat(netllm("test", "abr", "--setting", "synthetic", "--help")[1])
    assert "rates_kbps Label rate of each level, rising. [default: 300,750,1200," in shown


def test_help_of_a_baseline_lists_what_its_training_takes(netllm):
    assert "ppo" in flat(netllm("train-baseline", "abr", "--help")[1])
    shown = flat(netllm("train-baseline", "vp", "gru", "--help")[1])
    assert "hidden Width of the recurrent states. [default: 256]" in shown


@pytest.mark.parametrize("command", ["rl-collect", "adapt", "improve", "test"])
def test_help_for_a_task_loads_no_torch(command):
    script = (
        "import sys; from netllm.cli import main; "
        f"main(['{command}', 'abr', '--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def completed(script, *words):
    """What bash offers for the last word."""
    program = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        'COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; _netllm; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    shell = [shutil.which("bash"), "--norc", "-c", program, "bash", script, "netllm", *words]
    done = subprocess.run(shell, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_and_options(netllm, tmp_path):
    code, out, _ = netllm("completion", "bash")
    assert code == 0
    script = tmp_path / "netllm.sh"
    script.write_text(out)
    assert completed(script, "ada") == ["adapt"]
    assert completed(script, "pool", "ex") == ["export"]
    assert "--learning-rate" in completed(script, "adapt", "--lea")
    assert "--recipe" in completed(script, "test", "--rec")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(netllm, tmp_path, shell):
    code, out, _ = netllm("completion", shell)
    assert code == 0
    assert "rl-collect" in out
    if program := shutil.which(shell):
        (tmp_path / "script").write_text(out)
        subprocess.run([program, "-n", tmp_path / "script"], check=True)


def test_a_shell_that_there_is_not_is_bad_usage(netllm):
    code, _, err = netllm("completion", "tcsh")
    assert code == 2
    assert "bash" in err
