"""Every task's model decides on the device that was asked for."""

import netllm
import pytest
import torch
from netllm import registry
from netllm.task.build_model import build_model
from netllm_adapt import Recipe

SMALL = {"cc": {"intervals": 20}, "cjs": {"num_jobs": 6, "num_executors": 5}}


@pytest.mark.parametrize("task", registry.tasks())
def test_a_task_makes_no_tensor_on_the_default_device(task):
    found = registry.task(task)
    place = found.setting("synthetic", **SMALL.get(task, {}))
    recipe = Recipe(layers=1, rank=2, dtype="float32")
    model = build_model(found, place, "tiny-random", recipe)
    episodes = found.episodes(place, "valid", count=2)

    def rows():
        return found.rollout(found.policy(model, place), place, episodes, seed=0).rows

    usual = rows()
    with torch.device("meta"):  # where no tensor of the CPU can be met
        assert rows() == usual


@pytest.mark.parametrize("verb", ["adapt", "test", "rl_collect"])
def test_a_device_that_is_not_here_is_told_before_any_work(verb, tmp_path):
    out = {} if verb == "test" else {"out": tmp_path / "out"}
    more = {} if verb == "adapt" else {"checkpoint": "pretrained"}
    with pytest.raises(ValueError, match=r"cuda:99 was asked for, but .+ Ask for cpu"):
        getattr(netllm, verb)("abr", device="cuda:99", **out, **more)
    assert not (tmp_path / "out").exists()
