"""A merged checkpoint answers as the unmerged one, and transformers reads its backbone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from adapt_parts import linear_model, make_episode
from netllm_adapt import AdaptedModel, DecisionStream
from netllm_adapt.batches import Segment, collate
from transformers import AutoModel

pytestmark = pytest.mark.usefixtures("registered_parts")
BATCH = collate([make_episode(6, seed=0)], [Segment(0, 0, 0, 6)])


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "gemma3"])
def test_a_merged_model_answers_as_before(architecture: str, tmp_path: Path) -> None:
    model = linear_model(architecture)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folder = model.save_pretrained(tmp_path / "merged", merged=True)
    assert not list(folder.glob("adapter*"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    loaded = AdaptedModel.from_pretrained(folder)
    torch.testing.assert_close(loaded.hidden(BATCH), model.hidden(BATCH), atol=1e-4, rtol=1e-4)
    with model.backbone.disable_adapter():
        assert not torch.allclose(loaded.hidden(BATCH), model.hidden(BATCH), atol=1e-2)
    again = AdaptedModel.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    assert torch.equal(again.hidden(BATCH), loaded.hidden(BATCH))


@torch.no_grad()
def test_transformers_reads_the_merged_backbone(tmp_path: Path) -> None:
    model = linear_model("llama")
    folder = model.save_pretrained(tmp_path / "merged", merged=True)
    plain = AutoModel.from_pretrained(folder / "backbone").eval()
    tokens = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    hidden = plain(inputs_embeds=tokens).last_hidden_state
    wanted = model.backbone(inputs_embeds=tokens).last_hidden_state
    torch.testing.assert_close(hidden, wanted, atol=1e-4, rtol=1e-4)


def test_a_merged_model_of_rounded_weights_decides_alike(tmp_path: Path) -> None:
    model = linear_model("llama", dtype="bfloat16")
    loaded = AdaptedModel.from_pretrained(model.save_pretrained(tmp_path / "merged", merged=True))
    assert loaded.dtype == torch.bfloat16
    hidden = []
    for each in (model, loaded):
        stream = DecisionStream(each, batch=2)
        x = torch.tensor([[0.5, -1.0], [-0.3, 2.0]])
        hidden.append(stream.hidden({"x": x}, torch.ones(2), None).float())
    assert (hidden[0] - hidden[1]).abs().mean() < 0.05 * hidden[0].abs().mean()


def test_a_merged_model_has_nothing_to_learn_on(tmp_path: Path) -> None:
    folder = linear_model("llama").save_pretrained(tmp_path / "merged", merged=True)
    with pytest.raises(ValueError, match="holds a merged backbone, without an adapter"):
        AdaptedModel.from_pretrained(folder, trainable=True)


def test_a_merged_backbone_cannot_bring_code(tmp_path: Path) -> None:
    folder = linear_model("llama").save_pretrained(tmp_path / "merged", merged=True)
    (folder / "backbone" / "evil.py").write_text("raise SystemExit('ran')")
    path = folder / "backbone" / "config.json"
    config = json.loads(path.read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModel": "evil.M", "AutoConfig": "evil.C"}}
    path.write_text(json.dumps(config))
    (folder / "digests.json").unlink()
    with pytest.raises(ValueError, match=r"backbone.config\.json: must not have `auto_map`"):
        AdaptedModel.from_pretrained(folder)
    assert not [name for name in sys.modules if "evil" in name]


def test_a_merged_backbone_that_lacks_weights_is_named(tmp_path: Path) -> None:
    folder = linear_model("llama").save_pretrained(tmp_path / "merged", merged=True)
    (folder / "backbone" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"backbone.model\.safetensors: must be there"):
        AdaptedModel.from_pretrained(folder)
    (folder / "digests.json").unlink()
    with pytest.raises(ValueError, match=r"backbone.model\.safetensors: must be a whole"):
        AdaptedModel.from_pretrained(folder)
