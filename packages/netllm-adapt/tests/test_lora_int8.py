"""Products with frozen weights in int8: near the exact ones, row by row, only where asked for."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frozen_parts import linear
from netllm_adapt import add_lora, load_backbone
from netllm_adapt.lora import (
    check_int8,
    forget,
    has_int8,
    int8_products,
    lora_linear,
    lora_linear_grouped,
)
from netllm_adapt.lora import frozen_weights as frozen_products
from netllm_adapt.lora.int8_speed import int8_speedup, warn_if_slower
from torch import Tensor, nn

needs_vnni = pytest.mark.skipif(not has_int8(), reason="this processor has no AVX512-VNNI")
STEP = 1 / 127
"""The largest number of a row is so many steps."""


def frozen(outputs: int = 48, inputs: int = 33, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
    return nn.Parameter(weight, requires_grad=False)


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def error(found: Tensor, right: Tensor) -> float:
    """Relative to the size of the whole."""
    return float((found.double() - right.double()).norm() / right.double().norm())


@needs_vnni
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
def test_products_are_within_a_step_of_the_exact_ones(
    rows: int, dtype: torch.dtype, with_bias: bool
) -> None:
    weight, bias = frozen(dtype=dtype), drawn(48, dtype=dtype) if with_bias else None
    x, dy, plus = (drawn(rows, width, dtype=dtype) for width in (33, 48, 33))
    with int8_products():
        y = linear(x, weight, bias)
        dx = frozen_products.transposed_linear(dy, weight)
        summed = frozen_products.transposed_linear(dy, weight, plus)
    right = x.double() @ weight.double().t()
    assert y.dtype == dx.dtype == summed.dtype == dtype
    assert 1e-4 < error(y, right if bias is None else right + bias.double()) < 2 * STEP
    assert 1e-4 < error(dx, dy.double() @ weight.double()) < 2 * STEP
    assert error(summed, dy.double() @ weight.double() + plus.double()) < 2 * STEP


@needs_vnni
def test_a_row_depends_on_no_other_row() -> None:
    weight, x = frozen(), drawn(9, 33)
    x[3], x[5] = 1e6, 0.0
    with int8_products():
        together = linear(x, weight, None)
        alone = [linear(row[None], weight, None) for row in x]
    assert torch.equal(together, torch.cat(alone))
    assert together[5].abs().max() == 0


@needs_vnni
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_seen_in_its_row_alone(odd: float) -> None:
    weight, x, dy = frozen(), drawn(4, 33), drawn(4, 48)
    x[2, 7] = dy[2, 7] = odd
    with int8_products():
        found = linear(x, weight, None), frozen_products.transposed_linear(dy, weight)
    for product in found:
        assert not product[2].isfinite().any()
        assert product[[0, 1, 3]].isfinite().all()


@needs_vnni
def test_layers_of_a_group_are_those_one_by_one() -> None:
    x, weights = drawn(2, 5, 33), [frozen(48), frozen(20), frozen(7)]
    a, b = drawn(4, 33), drawn(20, 4)
    with int8_products():
        found = lora_linear_grouped(x, weights, [None] * 3, [None, (a, b), None], [1.0, 0.5, 1.0])
        second = lora_linear(x, weights[1], None, a, b, 0.5)
        third = linear(x.flatten(0, 1), weights[2], None)
    torch.testing.assert_close(found[1], second)
    assert torch.equal(found[2].flatten(0, 1), third)


@needs_vnni
def test_only_frozen_weights_inside_the_context_are_rounded() -> None:
    weight, x = frozen(), drawn(5, 33)
    exact = F.linear(x, weight)
    with int8_products():
        assert not torch.allclose(linear(x, weight, None), exact, rtol=1e-5)
        learning = frozen().requires_grad_()
        torch.testing.assert_close(linear(x, learning, None), exact)
        wide = linear(x.double(), frozen().data.double(), None)
    torch.testing.assert_close(wide, exact.double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(linear(x, weight, None), exact)


@needs_vnni
def test_the_rounded_copy_follows_the_weight_and_goes_with_it() -> None:
    weight, x = frozen(), drawn(5, 33)
    with int8_products():
        before = linear(x, weight, None)
        with torch.no_grad():
            weight.mul_(2)
        torch.testing.assert_close(linear(x, weight, None), 2 * before)
        weight.data.div_(2)
        forget(weight)
        torch.testing.assert_close(linear(x, weight, None), before)
    held = len(frozen_products._copies)
    del weight
    gc.collect()
    assert len(frozen_products._copies) == held - 1


@needs_vnni
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_of_a_model_are_near_the_exact_ones(dtype: str) -> None:
    model: Any = add_lora(load_backbone("tiny-random-llama", dtype=dtype), rank=4).train()
    for name, matrix in model.named_parameters():
        if "lora_B" in name:
            matrix.data.copy_(0.05 * drawn(*matrix.shape))
    kind = getattr(torch, dtype)
    tokens, grad = (drawn(2, 12, 64, dtype=kind, seed=seed) for seed in (2, 3))

    def gradients() -> Tensor:
        model.zero_grad()
        model(inputs_embeds=tokens).last_hidden_state.backward(grad)
        found = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
        return torch.cat(found)

    exact = gradients()
    with int8_products():
        rounded = gradients()
    assert 1e-3 < error(rounded, exact) < 0.1
    torch.testing.assert_close(gradients(), exact)


@needs_vnni
def test_who_asks_for_what_is_slower_here_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "cache" / "int8-speed.json"
    measured = int8_speedup(torch.float32)
    assert measured > 0
    ((key, kept),) = json.loads(file.read_text()).items()
    assert kept == measured
    for speed, told in ((0.5, ["2.0 times as long as those in float32"]), (1.5, [])):
        file.write_text(json.dumps({key: speed}))
        caplog.clear()
        warn_if_slower(torch.float32)
        assert len(caplog.records) == len(told)
        assert all(part in caplog.text for part in told)
    file.write_text("{")
    assert int8_speedup(torch.float32) > 0
    assert [*json.loads(file.read_text())] == [key]


def test_processors_without_fast_products_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="Products in int8 are for CPUs, got 'cuda'"):
        check_int8("cuda")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with (
        pytest.raises(ValueError, match="Products in int8 need a processor with AVX512-VNNI"),
        int8_products(),
    ):
        raise AssertionError
