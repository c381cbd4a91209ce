"""Checkpoints come back as they were, and bad ones say what is wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from adapt_parts import LinearEncoder, LinearHead, linear_model, make_episode
from netllm_adapt import AdaptedModel, BackboneSpec, add_lora, load_backbone
from netllm_adapt.batches import Segment, collate
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaModel

Room = Callable[[int], AbstractContextManager[None]]
BATCH = collate([make_episode(6, seed=0)], [Segment(0, 0, 0, 6)])


@pytest.fixture
def model(registered_parts: None) -> AdaptedModel:
    about = {"task": "abr", "setting": "synthetic", "command": "netllm adapt abr"}
    return linear_model(target_return=3.5, about=about)


@torch.no_grad()
def test_a_saved_model_answers_as_before(model: AdaptedModel, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    loaded = AdaptedModel.from_pretrained(folder)
    assert torch.equal(loaded.hidden(BATCH), model.hidden(BATCH))
    assert (loaded.window, loaded.segment, loaded.target_return) == (4, 24, 3.5)
    assert loaded.about == model.about
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "digests.json",
        "encoder.safetensors",
        "head.safetensors",
    ]
    assert "netllm adapt abr" in (folder / "README.md").read_text()


def test_a_model_that_is_told_of_no_returns_stays_so(registered_parts, tmp_path: Path) -> None:
    folder = linear_model(target_return=None).save_pretrained(tmp_path / "checkpoint")
    assert AdaptedModel.from_pretrained(folder).target_return is None


def test_saving_again_replaces_the_checkpoint_whole(model: AdaptedModel, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    (folder / "stale").touch()
    model.save_pretrained(folder)
    assert not (folder / "stale").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_no_checkpoint_is_not_replaced(model: AdaptedModel, tmp_path: Path) -> None:
    thesis = tmp_path / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("precious")
    (tmp_path / "work" / "config.json").write_text('{"model_type": "llama"}')
    for place in (thesis.parent, thesis):
        with pytest.raises(FileExistsError, match=r"must be new, empty or a checkpoint"):
            model.save_pretrained(place)
    assert thesis.read_text() == "precious"


def test_a_link_to_a_checkpoint_stays_one(model: AdaptedModel, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk", target_is_directory=True)
    model.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "config.json").is_file()


def test_another_packages_broken_part_hinders_no_save(
    model: AdaptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "aaa_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa-broken\nVersion: 1.0\n")
    lines = ("[netllm.heads]", "aaa = no_such_module:Head", "[netllm.encoders]", "aaa = json:Gone")
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert AdaptedModel.from_pretrained(model.save_pretrained(tmp_path / "checkpoint")).window == 4


def test_a_failed_save_leaves_the_old_checkpoint_and_says_what_to_do(
    model: AdaptedModel, tmp_path: Path, room: Room
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    before = content(folder)
    torch.nn.init.normal_(model.head.linear.weight)
    # Room for no file, for all but the largest, and what lies between.
    for size in sorted({len(file) for file in before.values()}):
        with room(size - 1), pytest.raises(OSError, match=r"Free space .*--resume.*checkpoint'$"):
            model.save_pretrained(folder)
        assert content(folder) == before
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    model.save_pretrained(folder)
    assert content(folder) != before


def test_a_first_save_that_fails_leaves_nothing(
    model: AdaptedModel, tmp_path: Path, room: Room
) -> None:
    with room(2_000), pytest.raises(OSError, match="checkpoint"):
        model.save_pretrained(tmp_path / "runs" / "checkpoint")
    assert list((tmp_path / "runs").iterdir()) == []


def edit(folder: Path, **changes: object) -> None:
    (folder / "digests.json").unlink(missing_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_configuration_of_another_width_names_the_file(
    model: AdaptedModel, tmp_path: Path
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder, encoder={"name": "linear", "config": {"width": 32}})
    told = r"encoder\.safetensors: its weights must be as config\.json .* from one checkpoint"
    with pytest.raises(ValueError, match=told):
        AdaptedModel.from_pretrained(folder)


def save_llama(folder: Path, width: int) -> None:
    config = {"hidden_size": width, "intermediate_size": 2 * width, "vocab_size": 32}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaModel(LlamaConfig(**config, **sizes)).save_pretrained(folder)


@pytest.mark.parametrize("width", [32, 128])
def test_a_backbone_of_another_width_is_refused(
    registered_parts: None, tmp_path: Path, width: int
) -> None:
    backbone = tmp_path / "llm"
    save_llama(backbone, 64)
    spec = BackboneSpec(str(backbone), dtype="float32")
    model = AdaptedModel(
        backbone=add_lora(load_backbone(spec.name, dtype=spec.dtype), rank=2),
        encoder=LinearEncoder(64),
        head=LinearHead(64),
        spec=spec,
        window=4,
        segment=24,
    )
    folder = model.save_pretrained(tmp_path / "checkpoint")
    AdaptedModel.from_pretrained(folder, trust_backbone=True)
    shutil.rmtree(backbone)
    save_llama(backbone, width)
    told = r"adapter_model\.safetensors must fit the backbone; was it made for another one\?"
    with pytest.raises(ValueError, match=told):
        AdaptedModel.from_pretrained(folder, trust_backbone=True)


def test_a_checkpoint_from_the_future_says_upgrade(model: AdaptedModel, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder, version=99)
    with pytest.raises(ValueError, match="newer netllm-adapt"):
        AdaptedModel.from_pretrained(folder)


def test_a_file_cut_off_is_named(model: AdaptedModel, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    path = folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"head\.safetensors: must have [0-9,]+ bytes"):
        AdaptedModel.from_pretrained(folder)


def test_an_adapter_cut_off_is_named(model: AdaptedModel, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="adapter"):
        AdaptedModel.from_pretrained(folder)


def test_a_folder_that_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no checkpoint: it has no config\.json"):
        AdaptedModel.from_pretrained(tmp_path)


def test_a_part_that_is_not_installed_is_named(model: AdaptedModel, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder, head={"name": "absent", "config": {}})
    with pytest.raises(ValueError, match=r"needs the part 'absent' of 'netllm\.heads'"):
        AdaptedModel.from_pretrained(folder)


class NotebookEncoder(LinearEncoder):
    """As if it were defined in a notebook: no installed package names it."""


class NotebookHead(LinearHead):
    """The same."""


@torch.no_grad()
def test_parts_of_a_notebook_are_saved_and_given_along(model: AdaptedModel, tmp_path: Path) -> None:
    model.encoder, model.head = NotebookEncoder(64), NotebookHead(64)
    folder = model.save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"from_pretrained\(FOLDER, parts=\[NotebookEncoder\]\)"):
        AdaptedModel.from_pretrained(folder)
    loaded = AdaptedModel.from_pretrained(folder, parts=[NotebookHead, NotebookEncoder])
    assert type(loaded.encoder) is NotebookEncoder
    assert torch.equal(loaded.hidden(BATCH), model.hidden(BATCH))
    twin = type("NotebookHead", (LinearHead,), {})
    with pytest.raises(ValueError, match="one class called NotebookHead, got 2"):
        AdaptedModel.from_pretrained(folder, parts=[NotebookEncoder, NotebookHead, twin])


def test_the_words_of_a_checkpoint_import_nothing(model: AdaptedModel, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    for name in ("this:s", "this", "__main__:this", "../this"):
        edit(folder, head={"name": name, "config": {}})
        with pytest.raises(ValueError, match=r"needs the part '.+' of 'netllm\.heads'"):
            AdaptedModel.from_pretrained(folder, parts=[NotebookEncoder])
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone": {"name": "tiny-random-llama", "depth": 2}}, "unknown field `depth`"),
        ({"backbone": None}, r"`object`, got `null` - at `\$\.backbone`"),
        ({"backbone": {"name": "tiny-random-llama", "layers": "2"}}, r"at `\$\.backbone\.layers`"),
        ({"encoder": None}, r"got `null` - at `\$\.encoder`"),
        ({"head": {"name": "linear"}}, r"required field `config` - at `\$\.head`"),
        (
            {"encoder": {"name": "linear", "config": {"width": 64, "depth": 1}}},
            "the part 'linear' of 'netllm.encoders' cannot be made from .*'depth'",
        ),
        ({"window": "4"}, r"at `\$\.window`"),
        ({"window": 0}, r"`int` >= 1 - at `\$\.window`"),
        ({"window": 10**30}, "Expected `int` <= 16777216"),
        ({"segment": None}, "lacks `segment`"),
        ({"attached": ["../secret.safetensors"]}, r"at `\$\.attached"),
        ({"attached": ["head.safetensors"]}, "which is a part's own"),
        ({"backbone": {"name": "/somewhere/llm"}}, "is none that is known here.*--trust-backbone"),
        ({"backbone": {"name": "somebody/model"}}, "is none that is known here.*--trust-backbone"),
        ({"backbone": {"name": "tiny-random-llama", "layers": 9}}, "`layers` must be from 1 to 4"),
    ],
)
def test_a_damaged_configuration_names_the_file(
    model: AdaptedModel, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder, **changes)
    with pytest.raises(ValueError, match=rf"checkpoint.config\.json:(1:)? .*{says}"):
        AdaptedModel.from_pretrained(folder)


def test_a_configuration_that_is_no_object_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json:1: must hold an object with its `version`"):
        AdaptedModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b'{"peft_type": "LO', b"\xff\xfe\x00", b"[]", b"{}", b""])
def test_a_damaged_configuration_of_the_adapter_names_the_file(
    model: AdaptedModel, tmp_path: Path, content: bytes
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder)
    (folder / "adapter_config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"adapter_config\.json:1: (not valid JSON|must hold)"):
        AdaptedModel.from_pretrained(folder)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "encoder.safetensors",
        "head.safetensors",
    ],
)
def test_one_changed_bit_of_a_checkpoint_is_named(
    model: AdaptedModel, tmp_path: Path, name: str
) -> None:
    path = model.save_pretrained(tmp_path / "checkpoint") / name
    whole = path.read_bytes()
    for place in (len(whole) // 2, len(whole) - 2):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=rf"{name}: ?"):
            AdaptedModel.from_pretrained(path.parent)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name}: must be there|has no {name}"):
        AdaptedModel.from_pretrained(path.parent)


def test_a_card_may_be_written_anew_and_an_earlier_checkpoint_has_no_digests(
    model: AdaptedModel, tmp_path: Path
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    (folder / "README.md").write_text("mine")
    AdaptedModel.from_pretrained(folder)
    (folder / "digests.json").unlink()
    assert AdaptedModel.from_pretrained(folder).window == 4


@pytest.mark.parametrize("width", [10**9, 10**12, 10**30, -1, 63, 2.5, "64", None, [64], {}])
def test_a_part_larger_than_its_weights_takes_no_memory(
    model: AdaptedModel, tmp_path: Path, width: object
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder, encoder={"name": "linear", "config": {"width": width}})
    told = r"encoder\.safetensors: its weights must be|config\.json: .*'linear' .* cannot be made|"
    with pytest.raises(ValueError, match=rf"{told}config\.json: The encoder must have"):
        AdaptedModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"r": 10**9}, r"at `\$\.r`"),
        ({"r": 100_000}, "ranks must be at most 64"),
        ({"rank_pattern": {"q_proj": 100_000}}, "ranks must be at most 64"),
        ({"megatron_config": {}, "megatron_core": "antigravity"}, r"at `\$\.megatron_config`"),
        ({"layer_replication": [[0, 1000000]]}, r"at `\$\.layer_replication`"),
        ({"lora_alpha": "much"}, r"at `\$\.lora_alpha`"),
        ({"peft_type": "NONSENSE"}, "must be as PEFT writes it"),
        ({"target_modules": {"q_proj": 1}}, r"at `\$\.target_modules`"),
    ],
)
def test_an_adapters_configuration_names_no_code_and_takes_no_memory(
    model: AdaptedModel, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=rf"adapter_config\.json.*{says}"):
        AdaptedModel.from_pretrained(folder)


def test_what_an_adapter_says_of_other_models_is_not_followed(
    model: AdaptedModel, tmp_path: Path
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    edit(folder)
    path = folder / "adapter_config.json"
    elsewhere = {
        "auto_mapping": {"parent_library": "antigravity", "base_model_class": "Model"},
        "base_model_name_or_path": "somebody/model",
        "revision": "0" * 40,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | elsewhere))
    assert "antigravity" not in sys.modules
    assert AdaptedModel.from_pretrained(folder).window == 4
    assert "antigravity" not in sys.modules


def test_files_attached_to_a_model_travel_with_its_checkpoint(
    model: AdaptedModel, tmp_path: Path
) -> None:
    save_file({"a": torch.arange(3)}, tmp_path / "mine.safetensors")
    model.attached = {"frames.safetensors": tmp_path / "mine.safetensors"}
    first = AdaptedModel.from_pretrained(model.save_pretrained(tmp_path / "one"))
    (tmp_path / "mine.safetensors").unlink()
    again = AdaptedModel.from_pretrained(first.save_pretrained(tmp_path / "one"))
    assert again.attached == {"frames.safetensors": tmp_path / "one" / "frames.safetensors"}
    assert load_file(again.attached["frames.safetensors"])["a"].tolist() == [0, 1, 2]


@torch.no_grad()
def test_a_checkpoint_of_format_1_has_its_facts_as_state_and_about(
    model: AdaptedModel, tmp_path: Path
) -> None:
    folder = model.save_pretrained(tmp_path / "checkpoint")
    (folder / "digests.json").unlink()
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in ("state", "about", "identity"):
        del config[name]
    identity = {"sources": [], "learned": ["ab"], "validated": []}
    config["task"] = {"task": "cjs", "most jobs": 5, "rate_hz": 5.0, "identity": identity}
    path.write_text(json.dumps(config | {"version": 1}))
    loaded = AdaptedModel.from_pretrained(folder)
    assert (loaded.state["most_jobs"], loaded.state["rate_hz"]) == (5, 5.0)
    assert loaded.about == {"task": "cjs", "most jobs": 5, "rate_hz": 5.0}
    assert loaded.identity.learned == ["ab"]
    assert torch.equal(loaded.hidden(BATCH), model.hidden(BATCH))
    again = AdaptedModel.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    assert (again.state, again.about, again.identity) == (
        loaded.state,
        loaded.about,
        loaded.identity,
    )
    path.write_text(json.dumps(config | {"version": 1, "task": []}))
    with pytest.raises(ValueError, match=r"config\.json: must hold an object as its `task`"):
        AdaptedModel.from_pretrained(folder)


def test_state_and_what_is_told_of_a_model_are_kept_apart(
    model: AdaptedModel, tmp_path: Path
) -> None:
    model.state["rate_hz"] = 5.0
    folder = model.save_pretrained(tmp_path / "checkpoint")
    loaded = AdaptedModel.from_pretrained(folder)
    assert (loaded.state, "rate_hz" in loaded.about) == ({"rate_hz": 5.0}, False)
    assert "| rate hz | 5.0 |" in (folder / "README.md").read_text()
