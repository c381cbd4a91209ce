"""Checkpoints go to a hub and come back, through the real client and a small hub beside the test.

Each test's client is a process of its own: huggingface_hub reads its settings when it is imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Files, Hub, hub
from netllm_adapt.checkpoint.hub import folder_of, is_repo

CONFIG = {
    "version": 2,
    "backbone": {"name": "tiny-random"},
    "encoder": {"name": "LinearEncoder", "config": {}},
    "head": {"name": "LinearHead", "config": {}},
    "about": {"task": "links"},
    "kind": "predictions",
    "attached": ["frames.safetensors"],
}
PLAIN = {
    "README.md": b"edited",
    "config.json": json.dumps(CONFIG).encode(),
    "encoder.safetensors": b"e",
    "head.safetensors": b"h",
    "frames.safetensors": b"f",
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": b"a",
}
BEGIN = """
import json
from pathlib import Path
from netllm_adapt.checkpoint.hub import fetch, folder_of, push

def fails(work, *arguments, **options):
    try:
        work(*arguments, **options)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"

def files(folder):
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}

told = {}
"""
END = "\nprint('TOLD' + json.dumps(told))"


def run(script: str, cwd: Path, endpoint: str, **settings: str) -> dict[str, Any]:
    """What a script tells, with a client whose hub is at `endpoint` and whose cache is in `cwd`."""
    parts = Path(__file__).with_name("parts")
    own = re.compile(r"(HF_|HUGGING).*|.*_PROXY", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not own.fullmatch(name)}
    paths = os.pathsep.join([str(parts), *filter(None, [kept.get("PYTHONPATH")])])
    told = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cwd / "home"),
        "HF_TOKEN": "hf_none",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": paths,
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script + END],
        env=kept | told,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout.split("TOLD")[-1])
    return values


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as started:
        yield started


def text(files: Files) -> dict[str, str]:
    return {name: content.decode() for name, content in files.items()}


def write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_model_goes_to_the_hub_and_comes_back_as_it_was(server: Hub, tmp_path: Path) -> None:
    told = run(
        """
import torch
from adapt_parts import LinearEncoder, LinearHead
from netllm_adapt import AdaptedModel, BackboneSpec, add_lora, load_backbone

spec = BackboneSpec("tiny-random", layers=1, dtype="float32")
model = AdaptedModel(
    backbone=add_lora(load_backbone(spec.name, layers=1, dtype=spec.dtype), rank=2),
    encoder=LinearEncoder(64), head=LinearHead(64), spec=spec, window=4, segment=24,
)
told["url"] = model.push_to_hub("me/links", private=True, commit_message="The first")
again = AdaptedModel.from_pretrained("me/links", parts=[LinearEncoder, LinearHead]).state_dict()
told["same"] = all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
merged = model.save_pretrained("merged", merged=True)
told["merged"] = push(merged, "me/links") and fails(
    AdaptedModel.from_pretrained, "me/links", parts=[LinearEncoder, LinearHead], trainable=True
)
""",
        tmp_path,
        server.url,
    )
    assert told["url"] == f"{server.url}/me/links"
    assert told["same"]
    assert "holds a merged backbone, without an adapter" in told["merged"]
    assert server.messages[0] == "The first"
    made = server.made[0]
    assert (made["organization"], made["name"]) == ("me", "links")
    assert made.get("private") is True or made.get("visibility") == "private"
    _, first, merged = ({*files} - {".gitattributes"} for files in server.repos["me/links"])
    common = {
        "README.md",
        "config.json",
        "digests.json",
        "encoder.safetensors",
        "head.safetensors",
    }
    assert first == common | {"adapter_config.json", "adapter_model.safetensors"}
    assert merged == common | {"backbone/config.json", "backbone/model.safetensors"}
    assert {"backbone/config.json", "backbone/model.safetensors"} <= {*server.downloads()}


def test_a_folder_is_pushed_as_it_lies_but_for_files_that_are_no_checkpoints(
    server: Hub, tmp_path: Path
) -> None:
    write(tmp_path / "best", PLAIN | {"secret.txt": b"mine", "notes/a.safetensors": b"n"})
    old = dict.fromkeys(("backbone/model.safetensors", "head.safetensors", "LICENSE"), b"old")
    config = CONFIG | {"attached": ["other.safetensors"]}
    old |= {"config.json": json.dumps(config).encode(), "other.safetensors": b"old"}
    server.repos["me/links"] = [old]
    told = run(
        """
from huggingface_hub import HfApi
told["before"] = HfApi().model_info("me/links").sha
push(Path("best"), "me/links")
told["new"] = files(fetch("me/links"))
told["old"] = files(fetch("me/links", revision=told["before"]))
told["unknown"] = fails(fetch, "me/links", revision="no-such")
told["none"] = fails(push, Path("."), "me/links")
""",
        tmp_path,
        server.url,
    )
    assert server.repos["me/links"][1:] == [PLAIN | {"LICENSE": b"old"}]
    assert told["new"] == text(PLAIN)
    assert told["old"] == text({name: old[name] for name in old if name != "LICENSE"})
    assert told["unknown"].startswith(
        "FileNotFoundError: 'me/links' must be a folder here, or a model"
    )
    assert "is no checkpoint: it has no config.json" in told["none"]


def test_what_is_no_checkpoint_is_neither_fetched_nor_replaced(server: Hub, tmp_path: Path) -> None:
    other = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"large"}
    server.repos["some/llm"] = [dict(other)]
    server.repos["some/data"] = [{"train.parquet": b"large"}]
    (tmp_path / "runs").mkdir()
    write(tmp_path / "best", PLAIN)
    told = run(
        """
told["llm"] = fails(fetch, "some/llm")
told["data"] = fails(fetch, "some/data")
told["none"] = fails(fetch, "some/none")
told["misspelt"] = str(folder_of("runs/none"))
told["pushed"] = fails(push, Path("best"), "some/llm")
""",
        tmp_path,
        server.url,
    )
    assert "some/llm: the hub's model of this name is no checkpoint of netllm-adapt" in told["llm"]
    assert "it has no config.json" in told["data"]
    assert told["none"].startswith(
        "FileNotFoundError: 'some/none' must be a folder here, or a model"
    )
    assert Path(told["misspelt"]) == Path("runs/none")
    assert not [asked for asked in server.asked if "runs/none" in asked]
    assert told["pushed"].startswith("FileExistsError: some/llm must be new, empty or a checkpoint")
    assert set(server.downloads()) == {"config.json"}
    assert server.repos["some/llm"] == [other]


def test_nothing_but_a_checkpoints_own_files_is_fetched_and_offline_they_serve(
    server: Hub, tmp_path: Path
) -> None:
    programs = {"evil.py": b"1/0", "pytorch_model.bin": b"1", "x/encoder.py": b"1"}
    server.repos["me/links"] = [PLAIN | programs]
    read = "told['links'] = files(fetch('me/links')); told['other'] = fails(fetch, 'me/other')"
    online = run(read, tmp_path, server.url)
    assert online["links"] == text(PLAIN)
    assert not programs.keys() & set(server.downloads())
    asked = len(server.asked)
    offline = run(read, tmp_path, server.url, HF_HUB_OFFLINE="1")
    assert offline["links"] == text(PLAIN)
    assert offline["other"].startswith("ConnectionError: 'me/other' is no folder here, and the hub")
    assert len(server.asked) == asked


def test_a_hub_that_nobody_reaches_is_named_as_such(tmp_path: Path) -> None:
    with hub() as gone:
        endpoint = gone.url
    write(tmp_path / "best", PLAIN)
    script = (
        "told['read'] = fails(fetch, 'me/x'); told['pushed'] = fails(push, Path('best'), 'me/x')"
    )
    for said in run(script, tmp_path, endpoint).values():
        assert said.startswith("ConnectionError: 'me/x' is no folder here, and the hub cannot be")


@pytest.mark.parametrize(
    "name",
    [
        "me",
        "me/",
        "/me/links",
        "me/links/best",
        "../links",
        "./links",
        "~/links",
        "me/a--b",
        "a b/c",
    ],
)
def test_only_an_owner_and_a_name_are_looked_for_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_repo(name)
    assert is_repo("me/links")
    assert not is_repo(Path("me/links"))
    assert folder_of(name) == Path(name)


def test_a_folder_here_comes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "links").mkdir(parents=True)
    assert folder_of("me/links") == Path("me/links")
    assert not is_repo("me/misspelt")
    with pytest.raises(ValueError, match="`revision` must be None for a folder, got 'v1'"):
        folder_of("me/links", revision="v1")
