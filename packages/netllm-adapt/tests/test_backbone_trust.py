"""A backbone's folder is data: it can neither run code nor lead to another model."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt.backbone import check_trusted, load_backbone, load_tokenizer
from transformers import LlamaConfig, LlamaModel

SIZES = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 32, "num_hidden_layers": 2}


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LlamaModel(LlamaConfig(num_attention_heads=4, **SIZES)).save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def edit(path: Path, **changes: object) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | changes))


CODE = "import pathlib; pathlib.Path({!r}).touch()\nclass Model: pass\nclass Config: pass\n"


def test_a_folder_of_code_is_refused_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (folder / "modeling_own.py").write_text(CODE.format(str(marker)))
    own = {"AutoModel": "modeling_own.Model", "AutoConfig": "modeling_own.Config"}
    edit(folder / "config.json", auto_map=own)
    for name in (str(folder), f"random-{folder}"):
        with pytest.raises(ValueError, match=r"llm.config\.json: must not have `auto_map`"):
            load_backbone(name)
    edit(folder / "config.json", auto_map=None)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_own.Model", None]})
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: must not have `auto_map`"):
        load_tokenizer(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": "somebody/kernel"},
        {"text_config": {"_attn_implementation": "somebody/kernel"}},
        {"backbone": "hf-hub:somebody/model"},
    ],
)
def test_a_configuration_names_no_code_and_no_other_model(
    folder: Path, changes: dict[str, Any]
) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=r"config\.json: must not have `.*can name code or an"):
        load_backbone(str(folder))


def test_an_adapter_in_a_backbones_folder_leads_nowhere(folder: Path) -> None:
    about = {"peft_type": "LORA", "base_model_name_or_path": "somebody/model"}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"adapter_config\.json: a backbone's folder must hold a"):
        load_backbone(str(folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_weights_that_are_a_pickle_are_refused_and_run_nothing(
    folder: Path, tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "marker"
    (folder / "model.safetensors").unlink()
    for write in (
        lambda path: torch.save({"a": Payload(marker)}, path),
        lambda path: path.write_bytes(pickle.dumps(Payload(marker))),
    ):
        write(folder / name)
        with pytest.raises((ValueError, FileNotFoundError), match="safetensors"):
            load_backbone(str(folder))
    assert not marker.exists()


def test_a_shard_lies_in_its_folder(folder: Path) -> None:
    index = {"weight_map": {"embed_tokens.weight": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json: `weight_map` must name files of its fol"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_size": 1_000_000_000}, "cannot make a model|has [0-9,]+ parameters"),
        ({"intermediate_size": 1_000_000_000}, r"has [0-9,]+ parameters, the weights beside it"),
        ({"vocab_size": 10**12}, r"has [0-9,]+ parameters, the weights beside it"),
        ({"num_hidden_layers": 1_000_000}, "`num_hidden_layers` must fit the [0-9]+ tensors"),
        ({"num_hidden_layers": "two"}, "transformers cannot make a model of it"),
        ({"model_type": "nonsense"}, "transformers cannot make a model of it"),
    ],
)
def test_a_larger_model_than_its_weights_is_refused_and_takes_no_memory(
    folder: Path, changes: dict[str, Any], says: str
) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=rf"config\.json: .*({says})"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    "name", ["somebody/model", "/etc", "../llm", "random-somebody/model", "llama", ""]
)
def test_a_checkpoint_names_known_backbones_unless_its_user_trusts_it(
    name: str, tmp_path: Path
) -> None:
    told = tmp_path / "config.json"
    with pytest.raises(ValueError, match=r"config\.json: its backbone .* --trust-backbone"):
        check_trusted(name, trust=False, told_by=told)
    check_trusted(name, trust=True, told_by=told)
    for known in ("tiny-random", "smollm2-135m", "random-smollm2-135m", "scratch-64x2"):
        check_trusted(known, trust=False, told_by=told)


@pytest.mark.parametrize(("sizes", "told"), [({"num_hidden_layers": 1}, "layers.1."), ({}, None)])
def test_blocks_that_the_configuration_does_not_know_are_not_left_out_in_silence(
    folder: Path, sizes: dict[str, int], told: str | None
) -> None:
    edit(folder / "config.json", **sizes)
    if told is None:
        assert len(load_backbone(str(folder), layers=1).layers) == 1
        return
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        load_backbone(str(folder))


def test_weights_of_other_shapes_or_a_pipe_are_refused_by_name(folder: Path) -> None:
    edit(folder / "config.json", intermediate_size=32)
    with pytest.raises((ValueError, FileNotFoundError), match="llm"):
        load_backbone(str(folder))
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: must be a regular file"):
        load_backbone(str(folder))
