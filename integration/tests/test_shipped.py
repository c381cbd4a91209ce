"""The checkpoints that come with the package."""

import json
import re

import pytest
from netllm.contender import SHIPPED, checkpoint_folder
from netllm.registry import task, tasks


@pytest.mark.parametrize("name", ["abr", "cjs", "vp"])
def test_a_shipped_checkpoint_is_small_and_says_how_it_was_made(name):
    folder = checkpoint_folder(name, "pretrained", home=SHIPPED)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10_000_000
    facts = json.loads((folder / "config.json").read_text())["task"]
    assert facts["data"] == "real"
    assert facts["command"].startswith(f"netllm adapt {name}")
    assert f"validation {task(name).metrics[0].key}" in facts
    texts = [(folder / file).read_text() for file in ("config.json", "README.md")]
    assert not any(re.search(r"[\s\"'=](/\w+){2,}", text) for text in texts)


def test_every_task_of_ours_ships_one():
    assert {folder.name for folder in SHIPPED.iterdir()} == {"abr", "cjs", "vp"} & set(tasks())
