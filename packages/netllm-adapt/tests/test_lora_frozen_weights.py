"""Frozen weights in oneDNN's layout: the same products, and never those of an older weight."""

import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frozen_parts import linear
from netllm_adapt import add_lora, load_backbone
from netllm_adapt.llama.inference import Product
from netllm_adapt.lora import forget, lora_linear
from netllm_adapt.lora import frozen_weights as frozen_products
from torch import Tensor, nn

pytestmark = pytest.mark.skipif(
    not frozen_products.has_onednn(torch.float32), reason="this machine's torch has no oneDNN"
)


def frozen(outputs: int = 48, inputs: int = 33, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
    return nn.Parameter(weight, requires_grad=False)


def kept(weight: Tensor) -> int:
    """How many of its layouts are kept."""
    copies = frozen_products._copies.get(weight)
    return len(copies.layouts) if copies else 0


@pytest.mark.parametrize("rows", [0, 1, 7, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
def test_products_are_those_of_plain_weights(
    rows: int, dtype: torch.dtype, with_bias: bool
) -> None:
    if not frozen_products.has_onednn(dtype):
        pytest.skip(f"no layouts of {dtype} here")
    weight = frozen(dtype=dtype)
    x, dy, plus = (torch.randn(rows, width).to(dtype) for width in (33, 48, 33))
    bias = torch.randn(48).to(dtype) if with_bias else None
    wide = weight.double()
    near: Any = {"rtol": 2e-2, "atol": 5e-2} if dtype == torch.bfloat16 else {}
    for found, right in (
        (
            linear(x, weight, bias),
            F.linear(x.double(), wide, None if bias is None else bias.double()),
        ),
        (frozen_products.transposed_linear(dy, weight), dy.double() @ wide),
        (frozen_products.transposed_linear(dy, weight, plus), dy.double() @ wide + plus.double()),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), right, **(near or {"rtol": 1e-5, "atol": 1e-5}))
    assert kept(weight) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [torch.arange(96.0)[::2], torch.ones(1).expand(48)])
def test_a_bias_may_have_any_strides(bias: Tensor, dtype: torch.dtype) -> None:
    if not frozen_products.has_onednn(dtype):
        pytest.skip(f"no layouts of {dtype} here")
    weight, x, bias = frozen(dtype=dtype), torch.zeros(4, 33, dtype=dtype), bias.to(dtype)
    y = lora_linear(x, weight, bias, torch.zeros(2, 33), torch.zeros(48, 2), 1.0)
    assert torch.equal(y, bias.expand(4, 48))
    lean = Product(weight, bias)
    for y in (
        lean(x),
        lean(x, "add", torch.zeros(4, 48, dtype=dtype)),
        lean(x, "mul", torch.ones(4, 48, dtype=dtype)),
        frozen_products.onednn_linear(
            x, frozen_products.onednn_weight(weight), bias, torch.zeros(4, 48, dtype=dtype)
        ),
    ):
        assert torch.equal(y, bias.expand(4, 48))
    torch.testing.assert_close(lean(x, then="swish"), F.silu(bias).expand(4, 48))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_pass_keeps_nothing_and_gives_the_same(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not frozen_products.has_onednn(dtype):
        pytest.skip(f"no layouts of {dtype} here")
    weight, x, dy = frozen(dtype=dtype), *(torch.randn(20, n).to(dtype) for n in (33, 48))
    short = linear(x, weight, None), frozen_products.transposed_linear(dy, weight, x)
    forget(weight)
    monkeypatch.setattr(frozen_products, "_MOST_ROWS", 19)
    long = linear(x, weight, None), frozen_products.transposed_linear(dy, weight, x)
    assert kept(weight) == 0
    rounding = 0 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(long, short, rtol=rounding, atol=rounding)


def test_of_frozen_layers_only_float32_weights_are_kept() -> None:
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight, x, dy = frozen(dtype=dtype), *(torch.randn(5, n).to(dtype) for n in (33, 48))
        y = linear(x, weight, None, adapted=False)
        dx = frozen_products.transposed_linear(dy, weight, x, adapted=False)
        torch.testing.assert_close(y, F.linear(x, weight))
        torch.testing.assert_close(dx, torch.addmm(x, dy, weight))
        found[dtype] = kept(weight)
    assert found == {torch.float32: 2, torch.bfloat16: 0}


def test_no_more_memory_is_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = frozen(), frozen()
    monkeypatch.setattr(
        frozen_products, "_MOST_BYTES", frozen_products._layout_bytes() + first.nbytes
    )
    x = torch.randn(3, 33)
    assert torch.equal(linear(x, first, None), linear(x, second, None))
    assert (kept(first), kept(second)) == (1, 0)


def test_layouts_follow_the_weight_and_go_with_it() -> None:
    weight, x = frozen(), torch.randn(5, 33)
    before = linear(x, weight, None)
    with torch.no_grad():
        weight.mul_(2)
    torch.testing.assert_close(linear(x, weight, None), 2 * before)
    weight.data = weight.data / 2
    torch.testing.assert_close(linear(x, weight, None), before)
    gc.collect()  # what other tests have left
    held = frozen_products._layout_bytes()
    size = weight.nbytes
    del weight
    gc.collect()
    assert frozen_products._layout_bytes() == held - size


def test_a_layer_that_was_rounded_and_back_is_laid_out_anew() -> None:
    layer, x = nn.Linear(33, 48, bias=False).requires_grad_(False), torch.randn(5, 33)
    for _ in range(10):  # the new weight may lie where the old one lay
        torch.nn.init.normal_(layer.weight)
        linear(x, layer.weight, None)
        layer.bfloat16().float()
        found = linear(x, layer.weight, None)
        torch.testing.assert_close(found, x @ layer.weight.t(), rtol=1e-5, atol=1e-5)


def test_a_change_that_torch_does_not_count_is_told() -> None:
    weight, x = frozen(), torch.randn(5, 33)
    before = linear(x, weight, None)
    weight.data.mul_(2)
    forget(weight)
    torch.testing.assert_close(linear(x, weight, None), 2 * before)


def test_weights_that_learn_are_never_laid_out() -> None:
    weight = frozen().requires_grad_()
    linear(torch.randn(5, 33), weight, None)
    assert kept(weight) == 0


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # old PEFTs leave it behind
def test_what_peft_merges_is_seen() -> None:
    model = add_lora(load_backbone("tiny-random-llama", dtype="float32"), rank=4)
    for name, matrix in model.named_parameters():
        if "lora_B" in name:
            matrix.data.normal_(std=0.1)
    tokens = torch.randn(1, 6, model.config.hidden_size)
    adapted = _hidden(model, tokens)
    model.merge_adapter()
    model.unmerge_adapter()
    torch.testing.assert_close(_hidden(model, tokens), adapted)
    anew = add_lora(model.merge_and_unload(), rank=4)  # whose matrices change nothing yet
    torch.testing.assert_close(_hidden(anew, tokens), adapted, rtol=1e-4, atol=1e-5)


def _hidden(model: Any, tokens: Tensor) -> Tensor:
    hidden: Tensor = model(inputs_embeds=tokens).last_hidden_state.detach()
    return hidden
