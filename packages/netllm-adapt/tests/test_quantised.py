"""Backbones in 4 and 8 bits, by bitsandbytes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from adapt_parts import LinearEncoder, LinearHead, make_episode
from netllm_adapt import AdaptedModel, BackboneSpec, add_lora, load_backbone, load_lora
from netllm_adapt.backbone import embedding_width
from netllm_adapt.batches import Segment, collate
from netllm_adapt.llama.packed_weights import uncovered
from netllm_adapt.llama.training import lean_training, library_training, uncovered_training
from netllm_adapt.lora import adapters, save_lora
from netllm_adapt.stream.decision_stream import DecisionStream
from torch import Tensor, nn

bnb: Any = pytest.importorskip("bitsandbytes", reason="bitsandbytes is the extra `quantised`")

KINDS = ("nf4", "int8")
TINY = ("llama", "mistral", "gemma3", "gpt2", "opt")
INPUT = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(3))


def _quantised(kind: str, name: str = "llama", dtype: str = "float32") -> Any:
    return load_backbone(f"tiny-random-{name}", dtype=dtype, quantise=kind)


def _whole(model: nn.Module, kind: str, name: str = "llama") -> Any:
    """The plain model with the numbers that PEFT's own reading of the bits gives."""
    from peft.utils.integrations import dequantize_bnb_weight

    plain = load_backbone(f"tiny-random-{name}", dtype="float32")
    for where, layer in model.named_modules():
        if isinstance(layer, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            weight: Any = dequantize_bnb_weight(layer.weight, state=getattr(layer, "state", None))
            target: Any = plain.get_submodule(where)
            # GPT-2 keeps its weights the other way round.
            target.weight.data = weight if isinstance(target, nn.Linear) else weight.t()
    return plain


def _stir(model: nn.Module) -> None:
    """Give B values, as training would."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3, generator=generator)


def _pass(model: nn.Module) -> dict[str, Tensor]:
    x = INPUT.clone().requires_grad_()
    y = model(inputs_embeds=x)[0]
    y.square().sum().backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return {"y": y, "x": x.grad, **grads}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TINY)
def test_outputs_and_gradients_are_those_of_the_dequantised_backbone(name: str, kind: str) -> None:
    before = torch.get_rng_state()
    bare = _quantised(kind, name)
    assert torch.equal(before, torch.get_rng_state())
    plain = _whole(bare, kind, name)
    models = [add_lora(model, rank=4, alpha=12) for model in (bare, plain)]
    for model in models:
        _stir(model)
    ours, theirs = map(_pass, models)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.parametrize(("kind", "share"), [("nf4", 0.53), ("int8", 1.02)])
def test_linear_layers_take_half_a_byte_or_one_for_each_number(kind: str, share: float) -> None:
    layers = [m for m in _quantised(kind).modules() if isinstance(m, nn.Linear)]
    state = [value for layer in layers for value in layer.state_dict().values()]
    stored = sum(value.numel() * value.element_size() for value in state)
    numbers = sum(layer.in_features * layer.out_features for layer in layers)
    maps = 0 if kind == "int8" else len(layers) * (256 + 16) * 4 + 300 * len(layers)
    assert stored - maps < (share + 0.05) * numbers


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_saved_loaded_and_merged(kind: str, tmp_path: Path) -> None:
    model = add_lora(_quantised(kind), rank=4)
    _stir(model)
    save_lora(model, tmp_path)
    loaded = load_lora(_quantised(kind), tmp_path)
    answer = model(inputs_embeds=INPUT)[0]
    assert torch.equal(loaded(inputs_embeds=INPUT)[0], answer)
    with pytest.warns(UserWarning, match="rounding errors"):
        merged: Any = loaded.merge_and_unload()
    # PEFT rounds the sum to the bits again.
    error = (merged(inputs_embeds=INPUT)[0] - answer).norm() / answer.norm()
    assert error < {"nf4": 0.5, "int8": 0.05}[kind]
    assert not any("lora" in name for name, _ in merged.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_dora_learns_over_fewer_bits(kind: str) -> None:
    bare = _quantised(kind)
    frozen = bare(inputs_embeds=INPUT)[0]
    model = add_lora(bare, rank=4, use_dora=True)
    torch.testing.assert_close(model(inputs_embeds=INPUT)[0], frozen, rtol=1e-4, atol=1e-4)
    _stir(model)
    assert not torch.allclose(model(inputs_embeds=INPUT)[0], frozen)
    with model.disable_adapter():
        assert torch.equal(model(inputs_embeds=INPUT)[0], frozen)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_mix_adapters(kind: str) -> None:
    model = add_lora(_quantised(kind), rank=4, seed=1)
    add_lora(model, rank=2, seed=2, name="other")
    _stir(model)
    alone = []
    for name in ("default", "other"):
        model.set_adapter(name)
        alone.append(model(inputs_embeds=INPUT)[0])
    with adapters(model, ["other", "default"]):
        mixed = model(inputs_embeds=INPUT)[0]
    torch.testing.assert_close(mixed[0], alone[1][0])
    torch.testing.assert_close(mixed[1], alone[0][1])


def _adapted(kind: str, name: str = "llama") -> AdaptedModel:
    spec = BackboneSpec(f"tiny-random-{name}", dtype="float32", quantise=kind)
    backbone = add_lora(_quantised(kind, name), rank=4)
    _stir(backbone)
    width = embedding_width(backbone)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, head = LinearEncoder(width), LinearHead(width)
    parts: Any = {"backbone": backbone, "encoder": encoder, "head": head, "spec": spec}
    return AdaptedModel(**parts, window=5, segment=200).eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_streamed_answers_equal_the_full_pass(kind: str) -> None:
    model = _adapted(kind)
    batch = collate(
        [make_episode(12, seed) for seed in (3, 4)], [Segment(i, 0, 0, 12) for i in (0, 1)]
    )
    stream = DecisionStream(model, batch=2)
    logits = []
    for t in range(12):
        seen = {name: value[:, t] for name, value in batch.observations.items()}
        before = batch.actions[:, t - 1] if t else None
        logits.append(model.head.logits(stream.hidden(seen, batch.returns[:, t], before))[:, 0])
    full = model.head.logits(model.hidden(batch))
    torch.testing.assert_close(torch.stack(logits, dim=1), full, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_loads_the_same_base(
    kind: str, registered_parts: None, tmp_path: Path
) -> None:
    model = _adapted(kind)
    folder = model.save_pretrained(tmp_path / "checkpoint")
    assert json.loads((folder / "config.json").read_text())["backbone"]["quantise"] == kind
    assert f"| frozen weights | in {kind}, by" in (folder / "README.md").read_text()
    loaded = AdaptedModel.from_pretrained(folder)
    assert loaded.spec == model.spec
    batch = collate([make_episode(6, seed=0)], [Segment(0, 0, 0, 6)])
    with torch.no_grad():
        assert torch.equal(loaded.hidden(batch), model.hidden(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_the_lean_pass_is_refused_and_the_lean_training_pass_serves(kind: str) -> None:
    model = add_lora(_quantised(kind), rank=4).eval()
    _stir(model)
    assert "LoraLinear" in str(uncovered(model))
    with pytest.raises(ValueError, match="`lean` must be None or False"):
        DecisionStream(_adapted(kind), batch=1, lean=True)
    assert uncovered_training(model) is None
    mask = torch.ones(1, 1, 9, 9, dtype=torch.bool).tril()
    lean = lean_training(model, INPUT, mask)
    with library_training():
        library = model(inputs_embeds=INPUT)[0]
    torch.testing.assert_close(lean, library, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_after_decisions(kind: str) -> None:
    model = add_lora(_quantised(kind), rank=4).train()
    _stir(model)
    before = _pass(model)
    model.zero_grad()
    with torch.no_grad():
        decided = model.eval()(inputs_embeds=INPUT)[0]
    after = _pass(model.train())
    torch.testing.assert_close(decided, before["y"], rtol=1e-4, atol=1e-4)
    for name, grad in before.items():
        torch.testing.assert_close(after[name], grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_quantised_while_it_is_read(kind: str, tmp_path: Path) -> None:
    load_backbone("tiny-random-llama", dtype="float32").save_pretrained(tmp_path)
    read = load_backbone(str(tmp_path), dtype="float32", quantise=kind, layers=2)
    drawn = load_backbone("tiny-random-llama", dtype="float32", quantise=kind, layers=2)
    with torch.no_grad():
        assert torch.equal(read(inputs_embeds=INPUT)[0], drawn(inputs_embeds=INPUT)[0])


def test_no_word_of_a_package_that_is_not_needed(caplog: pytest.LogCaptureFixture) -> None:
    _quantised("nf4")
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "no 'kernels'")
    log.warning("Register pytorch kernels")
    assert [record.getMessage() for record in caplog.records] == ["Register pytorch kernels"]
