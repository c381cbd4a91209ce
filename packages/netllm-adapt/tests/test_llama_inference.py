"""The lean pass is the library's function, without its overhead."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from adapt_parts import LinearEncoder, LinearHead, make_episode
from netllm_adapt import AdaptedModel, BackboneSpec, DecisionStream, add_lora, load_backbone
from netllm_adapt.batches import Batch, Segment, collate
from netllm_adapt.llama import inference as parts
from netllm_adapt.llama.packed_weights import lean_weights, uncovered
from netllm_adapt.lora import adapters
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, Qwen2Config

STEPS = 14


def make_model(plain: PreTrainedModel, **lora: Any) -> AdaptedModel:
    width = plain.config.hidden_size
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = add_lora(plain, rank=4, **lora)
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.05)
        encoder, head = LinearEncoder(width), LinearHead(width)
    return AdaptedModel(
        backbone=backbone,
        encoder=encoder,
        head=head,
        spec=BackboneSpec("tiny-random", dtype=str(plain.dtype).removeprefix("torch.")),
        window=3,
        segment=6 * 4,
    ).eval()


def tiny(name: str = "tiny-random-llama", *, dtype: str = "float32") -> AdaptedModel:
    return make_model(load_backbone(name, dtype=dtype, seed=1))


def episodes() -> Batch:
    rows = [make_episode(STEPS, seed) for seed in (3, 4)]
    return collate(rows, [Segment(i, 0, 0, STEPS) for i in (0, 1)])


def streamed(model: AdaptedModel, *, lean: bool | None) -> Tensor:
    batch = episodes()
    stream = DecisionStream(model, batch=2, lean=lean)
    hidden = []
    for t in range(STEPS):
        observation = {name: value[:, t] for name, value in batch.observations.items()}
        previous = batch.actions[:, t - 1] if t else None
        hidden.append(stream.hidden(observation, batch.returns[:, t], previous).float())
    return torch.cat(hidden, dim=1)


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("packs", [True, False])
def test_lean_hidden_states_equal_the_librarys_over_restarts(
    architecture: str, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs:
        monkeypatch.setattr(parts, "has_onednn", lambda dtype: False)
    model = tiny(f"tiny-random-{architecture}")
    torch.testing.assert_close(
        streamed(model, lean=True), streamed(model, lean=False), atol=1e-5, rtol=1e-4
    )


def test_biases_and_other_adapted_layers_are_taken_over() -> None:
    config = Qwen2Config(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = AutoModel.from_config(config).requires_grad_(False)
        for name, parameter in plain.named_parameters():
            if name.endswith("bias") or "norm" in name:
                nn.init.normal_(parameter, mean=0.5)
    model = make_model(plain, targets="all-linear")
    torch.testing.assert_close(
        streamed(model, lean=True), streamed(model, lean=False), atol=1e-4, rtol=1e-4
    )


def test_bfloat16_is_as_near_to_float32_as_the_librarys_own_pass() -> None:
    model, exact = tiny(dtype="bfloat16"), tiny(dtype="bfloat16")
    exact.backbone.float()
    truth = streamed(exact, lean=False)
    ours, librarys = (
        (streamed(model, lean=lean) - truth).square().mean() for lean in (True, False)
    )
    assert 0 < ours < 1.2 * librarys


def test_streams_see_the_weights_of_their_beginning() -> None:
    model = tiny()
    before = streamed(model, lean=True)
    for change in (lambda p: p.mul_(1.5), lambda p: p.data.mul_(1.5)):
        with torch.no_grad():
            change(next(p for n, p in model.backbone.named_parameters() if "lora_B" in n))
        after = streamed(model, lean=True)
        assert (after - before).abs().max() > 1e-4
        torch.testing.assert_close(after, streamed(model, lean=False), atol=1e-5, rtol=1e-4)
        before = after


def test_merged_and_disabled_adapters_are_followed() -> None:
    model = tiny()
    adapted = streamed(model, lean=True)
    model.backbone.merge_adapter()
    torch.testing.assert_close(streamed(model, lean=True), adapted, atol=1e-5, rtol=1e-4)
    model.backbone.unmerge_adapter()
    with model.backbone.disable_adapter():
        torch.testing.assert_close(
            streamed(model, lean=True), streamed(model, lean=False), atol=1e-5, rtol=1e-4
        )


def test_packed_weights_are_made_once_and_die_with_the_backbone() -> None:
    model = tiny()
    weights = lean_weights(model.backbone)
    assert lean_weights(model.backbone) is weights
    gone = weakref.ref(weights)
    del weights, model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gemma3"])
def test_other_backbones_go_through_the_librarys_pass(architecture: str) -> None:
    model = tiny(f"tiny-random-{architecture}")
    with pytest.raises(ValueError, match="`lean` must be None or False for this backbone: it is a"):
        DecisionStream(model, batch=1, lean=True)


def test_what_the_lean_pass_does_not_compute_is_left_to_the_library() -> None:
    assert uncovered(tiny().train().backbone) == "it is in training mode"
    hooked = tiny().backbone
    hooked.base_model.model.norm.register_forward_hook(lambda *_: None)
    assert uncovered(hooked) == "it has forward hooks"
    turned = make_model(load_backbone("tiny-random-llama", dtype="float32"), use_dora=True)
    assert "unusual adapter" in str(uncovered(turned.backbone))


@contextmanager
def mixing(model: AdaptedModel) -> Iterator[None]:
    """Two rows, each with its own adapter."""
    if "other" not in model.backbone.peft_config:
        add_lora(model.backbone, rank=3, name="other", seed=5)
        for name, parameter in model.backbone.named_parameters():
            if "lora_B.other" in name:
                parameter.data.fill_(0.1)
        model.eval()
    with adapters(model.backbone, ["default", "other"]):
        yield


def twice(model: AdaptedModel, stream: DecisionStream, steps: Iterable[int]) -> Tensor:
    """Hidden states of the same episode in both rows."""
    batch = collate([make_episode(STEPS, 3)] * 2, [Segment(i, 0, 0, STEPS) for i in (0, 1)])
    hidden = []
    for t in steps:
        observation = {name: value[:, t] for name, value in batch.observations.items()}
        previous = batch.actions[:, t - 1] if t else None
        hidden.append(stream.hidden(observation, batch.returns[:, t], previous))
    return torch.cat(hidden, dim=1)


@pytest.mark.parametrize("inside", [True, False])
def test_rows_of_a_stream_that_mix_adapters_go_through_the_librarys_pass(inside: bool) -> None:
    model = tiny()
    early = DecisionStream(model, batch=2)
    with mixing(model):
        stream = DecisionStream(model, batch=2) if inside else early
        mixed = twice(model, stream, range(STEPS))
    for row, name in enumerate(("default", "other")):
        model.backbone.set_adapter(name)
        alone = twice(model, DecisionStream(model, batch=2, lean=False), range(STEPS))
        torch.testing.assert_close(mixed[row], alone[row], atol=1e-5, rtol=1e-4)
    assert (mixed[0] - mixed[1]).abs().max() > 1e-3


def test_a_stream_keeps_what_it_saw_when_its_rows_begin_to_mix() -> None:
    model = tiny()
    seen = []
    for lean in (None, False):
        stream = DecisionStream(model, batch=2, lean=lean)
        before = twice(model, stream, range(5))
        with mixing(model):
            during = twice(model, stream, range(5, 8))
        seen.append(torch.cat([before, during, twice(model, stream, range(8, STEPS))], dim=1))
    torch.testing.assert_close(*seen, atol=1e-5, rtol=1e-4)


def test_a_lean_stream_that_is_asked_for_refuses_rows_that_mix() -> None:
    model = tiny()
    stream = DecisionStream(model, batch=2, lean=True)
    with mixing(model):
        with pytest.raises(ValueError, match=r"`lean` must be None or False .*`adapters`"):
            twice(model, stream, range(1))
        with pytest.raises(ValueError, match=r"`lean` must be None or False .*`adapters`"):
            DecisionStream(model, batch=2, lean=True)
    assert twice(model, stream, range(STEPS)).isfinite().all()


def test_adapters_that_are_disabled_do_not_mix() -> None:
    model = tiny()
    with mixing(model), model.backbone.disable_adapter():
        assert uncovered(model.backbone) is None


def test_products_are_compiled_for_few_numbers_of_rows():
    counts = {rows: parts.compiled_rows(rows) for rows in range(1, 1025)}
    assert all(rows <= count <= 1.125 * rows for rows, count in counts.items())
    assert len({*counts.values()}) <= 64
    assert counts[1] == 1


def test_rows_of_very_different_lengths_see_what_each_would_see_alone() -> None:
    weights = lean_weights(load_backbone("tiny-random-llama", dtype="float32", seed=1))
    lean = parts.LeanPass(weights)
    tokens, keys = [4, 120, 30, 1, 0], 160
    position = torch.full((len(tokens), max(tokens)), -1)
    mask = torch.zeros(len(tokens), 1, max(tokens), keys, dtype=torch.bool)
    mask[..., 0] = True
    for row, count in enumerate(tokens):
        position[row, :count] = torch.arange(count)
        mask[row, 0, :count, : count + 5] = torch.rand(count, count + 5) < 0.5
        mask[row, 0, :count, 0] = True
    given = torch.randn(*position.shape, 64)
    assert parts.spans(mask, position) is not None
    together = lean(given, mask, position, Held(keys))
    for row, count in enumerate(tokens):
        assert not together[row, count:].any()
        if not count:
            continue
        own = slice(row, row + 1)
        alone = lean(given[own, :count], mask[own, :, :count], position[own, :count], Held(keys))
        torch.testing.assert_close(together[own, :count], alone, atol=1e-5, rtol=1e-5)


class Held:
    """Keys and values of slots that earlier passes filled."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        shape = (1, keys.shape[1], self._slots, keys.shape[3])
        held = torch.randn((2, *shape), generator=torch.Generator().manual_seed(layer))
        return held[0].expand(len(keys), -1, -1, -1), held[1].expand(len(keys), -1, -1, -1)


def test_rows_of_about_one_length_pass_together() -> None:
    position = torch.arange(100).expand(4, -1)
    mask = torch.ones(4, 1, 100, 200, dtype=torch.bool)
    assert parts.spans(mask, position) is None
    assert parts.spans(mask[:1], position[:1]) is None
