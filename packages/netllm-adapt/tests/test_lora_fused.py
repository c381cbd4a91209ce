"""`fuse=True`: layers that read the same tensor in one go, with the outputs and gradients of one by
one."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt import add_lora, load_backbone, load_lora
from netllm_adapt.attention import band
from netllm_adapt.llama.training import library_training, uncovered_training
from netllm_adapt.llama.weights import uncovered
from netllm_adapt.lora import LoraLinear, adapters, save_lora, train_adapters
from netllm_adapt.model.base import Rows
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, Qwen2Config, Qwen3Config

TOKENS, NAMES = 40, ("abr", "vp")
SIZES = {
    "vocab_size": 3,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
MADE = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}


def plain(kind: str, dtype: str = "float32") -> Any:
    if kind not in MADE:
        return load_backbone(f"tiny-random-{kind}", dtype=dtype, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModel.from_config(MADE[kind](**SIZES)).to(getattr(torch, dtype))


def adapted(
    kind: str = "llama", *names: str, fuse: bool, dtype: str = "float32", **options: Any
) -> Any:
    model = plain(kind, dtype)
    for seed, name in enumerate(names or ("default",)):
        model = add_lora(model, rank=4, alpha=6, name=name, seed=seed, fuse=fuse, **options)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1, generator=generator)
    return model.train()


def passed(model: Any, *, library: bool = True) -> dict[str, Tensor]:
    """Hidden states and gradients of tokens and parameters, by name, through a pass of rows."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, TOKENS, model.config.hidden_size)
    tokens = torch.randn(shape, generator=generator).to(model.dtype).requires_grad_()
    grad = torch.randn(shape, generator=generator).to(model.dtype)
    step = torch.arange(TOKENS)[None] // 4
    place = torch.arange(TOKENS)[None]
    rows = Rows(tokens, band(step, place, step, place, window=5), lambda h: h)
    model.zero_grad()
    if library:
        with library_training():
            hidden = rows.through(model)
    else:
        assert uncovered_training(model) is None
        hidden = rows.through(model)
    groups = sum(name == "_GroupedBackward" for name in nodes(hidden))
    hidden.backward(grad.to(hidden.dtype))
    assert all(m.siblings is None for m in model.modules() if isinstance(m, LoraLinear))
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"groups": torch.tensor(groups), "h": hidden.detach(), "x": tokens.grad, **grads}


def nodes(y: Tensor) -> Iterator[str]:
    """The names of the operations that a gradient of ``y`` will pass through."""
    todo, seen = [y.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield type(node).__name__
            todo += [following for following, _ in node.next_functions]


def same(fused: dict[str, Tensor], apart: dict[str, Tensor], *, within: float = 2e-6) -> int:
    """How many groups there were, if the rest is equal by Frobenius norm."""
    groups, none = int(fused.pop("groups")), int(apart.pop("groups"))
    assert none == 0
    assert fused.keys() == apart.keys()
    for name, right in apart.items():
        error = (fused[name].double() - right.double()).norm() / right.double().norm()
        assert error <= within, f"{name}: {error}"
    return groups


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("targets", [None, "all-linear"])
def test_outputs_and_gradients_are_those_of_layers_one_by_one(kind: str, targets: Any) -> None:
    fused, apart = (adapted(kind, fuse=f, targets=targets) for f in (True, False))
    blocks = fused.config.num_hidden_layers
    groups = same(passed(fused), passed(apart))
    assert groups == (blocks if targets is None else 2 * blocks)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("targets", [None, "all-linear"])
@pytest.mark.parametrize("fuse", [True, False])
def test_the_lean_training_pass_always_computes_groups(kind: str, targets: Any, fuse: bool) -> None:
    lean, apart = (adapted(kind, fuse=f, targets=targets) for f in (fuse, False))
    groups = same(passed(lean, library=False), passed(apart), within=1e-5)
    assert groups == 4 * lean.config.num_hidden_layers  # q, k, v; o; gate, up; down


def test_bfloat16_agrees_within_its_rounding() -> None:
    options: Any = {"dtype": "bfloat16", "targets": "all-linear"}
    fused, apart = (adapted(fuse=f, **options) for f in (True, False))
    assert same(passed(fused), passed(apart), within=3e-2) > 0


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("names", [(), NAMES], ids=["one adapter", "after mixed rows"])
def test_gradient_checkpointing_changes_no_gradient(reentrant: bool, names: Any) -> None:
    fused, apart = (adapted("qwen2", *names, fuse=f, targets="all-linear") for f in (True, False))
    for model in (fused, apart):
        model.set_adapter((*names, "default")[0])
        if names:
            with adapters(model, list(NAMES)):
                passed(model)
        model.get_base_model().gradient_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:  # its repetition is not in the graph that is walked
            model.get_base_model().enable_input_require_grads()
    assert same(passed(fused), passed(apart)) == (0 if reentrant else 4)


def test_rows_of_several_adapters_go_layer_by_layer_and_groups_come_back() -> None:
    fused, apart = (adapted("llama", *NAMES, fuse=f) for f in (True, False))
    results = []
    for model in (fused, apart):
        train_adapters(model, NAMES)
        with adapters(model, list(NAMES)):
            results.append(passed(model))
    assert same(*results) == 0
    assert same(passed(fused), passed(apart)) == 4


@pytest.mark.parametrize("options", [{"dropout": 0.3}, {"use_dora": True}, {"lora_bias": True}])
def test_dropout_and_what_peft_computes_go_layer_by_layer(options: dict[str, Any]) -> None:
    results = []
    for fuse in (True, False):
        model = adapted("qwen2", fuse=fuse, **options)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            results.append(passed(model))
    assert same(*results) == 0


def test_autocast_computes_groups_in_its_dtype() -> None:
    results = []
    for fuse in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            results.append(passed(adapted(fuse=fuse, targets="all-linear")))
    assert same(*results, within=3e-2) == 8


def test_merging_disabling_and_unloading_work_as_ever() -> None:
    fused, apart = (adapted(fuse=f, targets="all-linear").eval() for f in (True, False))
    x = torch.randn(1, 9, fused.config.hidden_size, generator=torch.Generator().manual_seed(0))

    def answer(model: Any) -> Tensor:
        hidden: Tensor = model(inputs_embeds=x)[0]
        return hidden

    before = answer(fused)
    torch.testing.assert_close(before, answer(apart))
    torch.testing.assert_close(answer(copy.deepcopy(fused)), before)
    with fused.disable_adapter(), apart.disable_adapter():
        assert torch.equal(answer(fused), answer(apart))
    with torch.inference_mode():
        assert torch.equal(answer(fused), answer(apart))
    fused.merge_adapter()
    torch.testing.assert_close(answer(fused), before, rtol=1e-4, atol=1e-5)
    fused.unmerge_adapter()
    assert uncovered(fused) is None
    unloaded = fused.merge_and_unload()
    torch.testing.assert_close(answer(unloaded), before, rtol=1e-4, atol=1e-5)
    assert uncovered(unloaded) is None
    unloaded.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert "hooks" in str(uncovered(unloaded))


@pytest.mark.parametrize("fuse", [True, False])
def test_a_saved_adapter_loads_with_the_same_names_either_way(fuse: bool, tmp_path: Path) -> None:
    model, other = (adapted(fuse=f, targets="all-linear") for f in (fuse, not fuse))
    save_lora(model, tmp_path / "one")
    save_lora(other, tmp_path / "other")
    one, two = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("one", "other"))
    assert one.keys() == two.keys()
    assert model.state_dict().keys() == other.state_dict().keys()
    again = load_lora(plain("llama"), tmp_path / "one", trainable=True, fuse=not fuse).train()
    results = passed(model), passed(again)
    assert same(*(results if fuse else results[::-1])) == 8
