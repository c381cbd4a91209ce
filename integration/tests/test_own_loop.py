"""The examples of other people's training loops: they learn, and what they save is a checkpoint."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from netllm_adapt import Predictor
from netllm_adapt.llama.training import uncovered_training
from scipy import stats

HERE = Path(__file__).resolve().parents[2] / "examples" / "own-loop"


pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_plain_loop_learns_more_than_holding_the_last_viewport(tmp_path, capsys):
    main = runpy.run_path(str(HERE / "supervised.py"))["main"]
    errors = main(["--out", str(tmp_path / "run")])
    assert errors["adapted"] < 0.95 * errors["hold-last"]
    before, *after = (float(line.split()[-2]) for line in capsys.readouterr().out.splitlines()[:-1])
    assert min(after) < 0.97 * before
    assert learns_through_the_lean_pass(tmp_path / "run")


def test_an_agent_of_stable_baselines3_learns_to_stream(tmp_path):
    pytest.importorskip("stable_baselines3", reason="the agent is one of Stable-Baselines3")
    main = runpy.run_path(str(HERE / "agent.py"))["main"]
    earned = main(["--out", str(tmp_path / "run")])
    gain = earned["after"] - earned["before"]
    assert stats.ttest_1samp(gain, 0, alternative="greater").pvalue < 1e-3
    # The checkpoint has no frozen weights: what it earns tells that these were left as they were.
    np.testing.assert_allclose(earned["loaded"], earned["after"], rtol=1e-6)
    assert learns_through_the_lean_pass(tmp_path / "run")


def learns_through_the_lean_pass(run):
    model = Predictor.from_pretrained(run, trainable=True)
    return uncovered_training(model.train().backbone) is None
