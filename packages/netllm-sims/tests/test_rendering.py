import os
import subprocess
import sys

import gymnasium
import netllm_sims
import numpy as np
import pytest

ENVIRONMENTS = {
    "netllm/ABR-v0": {"chunks": 6},
    "netllm/VP-v0": {"part": "test"},
    "netllm/CJS-v0": {"num_jobs": 4, "num_executors": 5},
    "netllm/CJSTable-v0": {"num_jobs": 4, "num_executors": 5},
}


def make(name, **arguments):
    assert netllm_sims
    return gymnasium.make(name, setting="synthetic", **ENVIRONMENTS[name], **arguments)


def valid_action(env):
    inner = env.unwrapped
    if hasattr(inner, "action_masks"):
        masks = inner.action_masks()
        return np.array([np.flatnonzero(masks[: inner.rows + 1])[0], 0])
    return inner.action_space.sample()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_picture_shows_each_state_in_pixels(name):
    env = make(name, render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    pictures = [env.render()]
    for _ in range(3):
        env.step(valid_action(env))
        pictures.append(env.render())
    assert {picture.shape for picture in pictures} == {(360, 640, 3)}
    assert all(picture.dtype == np.uint8 for picture in pictures)
    assert all(picture.std() > 5 for picture in pictures)
    assert (pictures[0] != pictures[-1]).any()
    np.testing.assert_array_equal(pictures[-1], env.render())
    env.close()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_same_episode_runs_with_a_picture_and_without(name):
    seen = []
    for mode in (None, "rgb_array"):
        env = make(name, render_mode=mode)
        env.reset(seed=5)
        env.action_space.seed(0)
        seen.append([env.step(valid_action(env))[1] for _ in range(4)])
    assert seen[0] == seen[1]


def test_an_unknown_render_mode_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="rgb_array"):
        netllm_sims.abr.Env(setting="synthetic", render_mode="rgb_aray")


WINDOW = """
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg


class FigureManager(FigureManagerBase):
    def show(self):
        print("shown")

    @classmethod
    def pyplot_show(cls, *, block=None):
        pass


class FigureCanvas(FigureCanvasAgg):
    manager_class = FigureManager
"""
SHOW = """
import gymnasium
env = gymnasium.make(
    "netllm_sims:netllm/ABR-v0", setting="synthetic", chunks=6, render_mode="human"
)
env.unwrapped.metadata["render_fps"] = 1000
env.reset(seed=0)
for _ in range(2):
    env.step(1)
assert env.render() is None
env.close()
"""


def run(script, tmp_path, backend):
    (tmp_path / "window.py").write_text(WINDOW)
    environment = {**os.environ, "MPLBACKEND": backend, "PYTHONPATH": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )


def test_a_window_shows_each_state_after_reset_and_step(tmp_path):
    done = run(SHOW, tmp_path, "module://window")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("shown") == 4  # reset, two steps, render


def test_a_window_is_refused_where_there_is_none(tmp_path):
    done = run(SHOW, tmp_path, "agg")
    assert done.returncode == 1
    assert "needs a window" in done.stderr


def test_an_environment_is_made_without_importing_the_package():
    make = "gymnasium.make('netllm_sims:netllm/VP-v0', setting='synthetic')"
    script = f"import gymnasium; print({make}.spec.id)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "netllm/VP-v0"
