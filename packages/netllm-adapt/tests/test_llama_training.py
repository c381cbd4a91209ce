"""The lean training pass is the library's function, with its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Bool
from netllm_adapt import add_lora, load_backbone
from netllm_adapt.attention import band
from netllm_adapt.llama import gradients as parts
from netllm_adapt.llama.training import lean_training, library_training, uncovered_training
from netllm_adapt.lora import adapters, train_adapters
from netllm_adapt.model.base import BackboneInput
from torch import Tensor
from transformers import AutoModel, Qwen2Config

TOKENS, PER_STEP, WINDOW = 150, 4, 20
NAMES = ("abr", "vp")


def adapted(plain: Any, *names: str) -> Any:
    model = plain
    for seed, name in enumerate(names or ("default",)):
        model = add_lora(model, rank=4, name=name, seed=seed)
    generator = torch.Generator().manual_seed(0)
    for name, matrix in model.named_parameters():
        if "lora_B" in name:
            drawn = torch.randn(matrix.shape, generator=generator)
            matrix.data.copy_(0.05 * drawn)
    return model.train()


def llama(dtype: str = "float32") -> Any:
    return adapted(load_backbone("tiny-random-llama", dtype=dtype, seed=1))


def qwen() -> Any:
    """Biases, and heads of another width than the hidden states' share."""
    config = Qwen2Config(
        vocab_size=3,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return adapted(AutoModel.from_config(config))


def scratch() -> Any:
    return load_backbone("scratch-64x2", dtype="float32").train()


def masks(*per_step: int) -> Bool[Tensor, "row 1 token token"]:
    """Of rows whose steps have so many tokens."""
    position = torch.arange(TOKENS)
    step = torch.stack([position // size for size in per_step])
    place = position[None].expand(len(per_step), -1)
    return band(step, place, step, place, window=WINDOW)


def passed(
    model: Any, mask: Tensor, *, rows: int = 2, wanted: Tensor | None = None
) -> dict[str, Tensor]:
    """Hidden states and gradients of tokens and parameters, by name."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows, TOKENS, model.config.hidden_size)
    tokens = torch.randn(shape, generator=generator).to(model.dtype).requires_grad_()
    grad = torch.randn(shape, generator=generator).to(model.dtype)
    model.zero_grad()
    position = torch.arange(TOKENS)[None]
    hidden = BackboneInput(tokens, mask, position, lambda h: h, wanted).through(model)
    if wanted is not None:
        grad = grad[:, wanted]
    hidden.backward(grad)
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"hidden": hidden.detach(), "tokens": tokens.grad, **grads}


def by_library(model: Any, mask: Tensor, **options: Any) -> dict[str, Tensor]:
    with library_training():
        return passed(model, mask, **options)


def error(some: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """The mean over all tensors of the relative error, by Frobenius norm."""
    assert some.keys() == right.keys()
    errors = [(some[n].double() - r.double()).norm() / r.double().norm() for n, r in right.items()]
    return float(torch.stack(errors).mean())


@pytest.mark.parametrize("build", [llama, qwen, scratch])
@pytest.mark.parametrize("sizes", [(4,), (4, 7)], ids=["one band", "a band per row"])
def test_hidden_states_and_gradients_equal_the_librarys(build: Any, sizes: tuple[int, ...]) -> None:
    model, mask = build(), masks(*sizes)
    assert uncovered_training(model) is None
    ours, right = passed(model, mask), by_library(model, mask)
    assert len(ours) >= 10
    assert error(ours, right) < 2e-6


@pytest.mark.parametrize("build", [llama, qwen, scratch])
@pytest.mark.parametrize("sizes", [(4,), (4, 7)], ids=["one band", "a band per row"])
def test_tokens_that_are_wanted_are_as_if_all_were(build: Any, sizes: tuple[int, ...]) -> None:
    model, mask = build(), masks(*sizes)
    ours = passed(model, mask, wanted=torch.arange(2, TOKENS, 4))
    right = by_library(model, mask, wanted=torch.arange(2, TOKENS, 4))
    assert ours["hidden"].shape[1] == TOKENS // 4
    assert error(ours, right) < 2e-6


def test_a_mistral_is_covered() -> None:
    model = adapted(load_backbone("tiny-random-mistral", dtype="float32", seed=1))
    assert uncovered_training(model) is None
    assert error(passed(model, masks(4)), by_library(model, masks(4))) < 2e-6


def test_rounding_in_bfloat16_errs_no_more_than_the_librarys() -> None:
    right = by_library(llama(), masks(4))
    coarse = llama("bfloat16")
    assert error(passed(coarse, masks(4)), right) <= 1.25 * error(
        by_library(coarse, masks(4)), right
    )


def test_rows_of_several_adapters_pass_together() -> None:
    model = adapted(load_backbone("tiny-random-llama", dtype="float32", seed=1), *NAMES)
    train_adapters(model, NAMES)
    with adapters(model, list(NAMES)):
        ours, right = passed(model, masks(4)), by_library(model, masks(4))
    assert error(ours, right) < 2e-6


def test_a_pass_repeats_bit_by_bit() -> None:
    model = llama("bfloat16")
    once, again = (passed(model, masks(4)) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_gradients_may_be_asked_for_twice() -> None:
    model = llama()
    tokens = torch.randn(2, TOKENS, model.config.hidden_size, requires_grad=True)
    hidden = lean_training(model, tokens, masks(4))
    assert hidden is not None
    once, again = (
        torch.autograd.grad(hidden.square().sum(), tokens, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(once, again)


def test_a_large_pass_keeps_no_probabilities_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, sizes, results = llama("bfloat16"), [], []
    for kept in (2 * TOKENS, 2 * TOKENS - 1):
        monkeypatch.setattr(parts, "_KEPT", kept)
        seen: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, seen=seen: seen.append(t.nbytes) or t, lambda t: t
        ):
            results.append(passed(model, masks(4)))
        sizes.append(sum(seen))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    blocks = parts.blocks_of(masks(4), torch.bfloat16, heads=1, groups=1)
    config = model.config
    heads = 2 * config.num_attention_heads * config.num_hidden_layers  # in two rows
    assert sizes[0] - sizes[1] == sum(block.bias.nbytes for block in blocks) * heads


def test_the_gates_gradient_is_that_of_finite_differences() -> None:
    gate, up = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.testing.assert_close(parts.Gated.apply(gate, up), torch.nn.functional.silu(gate) * up)
    assert torch.autograd.gradcheck(parts.Gated.apply, (gate, up))


def test_blocks_hold_every_key_that_is_attended_in_whole_vectors() -> None:
    mask = masks(4, 7)
    blocks = parts.blocks_of(mask, torch.float32, heads=2, groups=3)
    found = torch.zeros(4, TOKENS, TOKENS, dtype=torch.bool)
    for start, stop, first, last, bias in blocks:
        assert first % 32 == 0
        assert last % 32 == 0 or last == TOKENS
        assert bias.shape == (4, 3 * (stop - start), last - first)
        groups = bias.view(4, 3, stop - start, -1)
        assert torch.equal(groups, groups[:, :1].expand_as(groups))
        found[:, start:stop, first:last] = groups[:, 0] == 0
    assert torch.equal(found, mask[:, 0].repeat_interleave(2, 0))
    assert sum(block.last - block.first for block in blocks) < 3 * TOKENS


def test_a_token_that_attends_nothing_is_left_to_the_library() -> None:
    model, mask = llama(), masks(4)
    mask[0, 0, 5] = False
    tokens = torch.zeros(1, TOKENS, model.config.hidden_size)
    assert lean_training(model, tokens, mask) is None
    assert error(passed(model, mask), by_library(model, mask)) == 0


def test_it_says_what_it_does_not_cover() -> None:
    model = llama()
    with torch.no_grad():
        assert "gradient" in str(uncovered_training(model))
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in str(uncovered_training(model))
    with library_training():
        assert "asked for" in str(uncovered_training(model))
    hook = model.get_base_model().layers[0].register_forward_hook(lambda *_: None)
    assert "hooks" in str(uncovered_training(model))
    hook.remove()
    model.config.attention_dropout = 0.1
    assert "drops out" in str(uncovered_training(model))
    model.config.attention_dropout = 0.0
    assert uncovered_training(model) is None


@pytest.mark.parametrize("name", ["tiny-random-opt", "tiny-random-gpt2"])
def test_other_architectures_go_through_the_library(name: str) -> None:
    model = adapted(load_backbone(name, dtype="float32", seed=1))
    assert type(model.get_base_model()).__name__ in str(uncovered_training(model))


def test_types_of_no_use_on_a_cpu_go_through_the_library() -> None:
    assert "float16" in str(uncovered_training(llama("float16")))
