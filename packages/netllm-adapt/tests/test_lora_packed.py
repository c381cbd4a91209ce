"""Frozen weights that are made whole for each pass: by any callable, bitsandbytes or not."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from netllm_adapt.lora import Adapter, Packed, lora_linear, lora_linear_mixed, use_backend
from netllm_adapt.lora._packed import packed_linear
from torch import Tensor

OUTPUTS, INPUTS, RANK = 24, 16, 4


class Bytes:
    """A weight as whole numbers and one scale; it counts how often it is made whole."""

    def __init__(self) -> None:
        self.numbers = torch.randint(-127, 128, (OUTPUTS, INPUTS), generator=_stream(0)).to(
            torch.int8
        )
        self.made: list[weakref.ref[Tensor]] = []

    def __call__(self, dtype: torch.dtype) -> Tensor:
        full = self.numbers.to(dtype) / 64
        self.made.append(weakref.ref(full))
        return full

    def packed(self) -> Packed:
        return Packed(self, (OUTPUTS, INPUTS), self.numbers.device)

    def alive(self) -> int:
        return sum(made() is not None for made in self.made)


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _leaf(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=_stream(seed)).to(dtype).requires_grad_()


def _leaves(dtype: torch.dtype) -> list[Tensor]:
    """Of the low-rank matrices in fp32: x, bias, a, b."""
    return [
        _leaf(3, 5, INPUTS, seed=1, dtype=dtype),
        _leaf(OUTPUTS, seed=2, dtype=dtype),
        _leaf(RANK, INPUTS, seed=3),
        _leaf(OUTPUTS, RANK, seed=4),
    ]


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_outputs_and_gradients_are_those_of_the_whole_weight(
    backend: str, dtype: torch.dtype, dropout: float
) -> None:
    bits = Bytes()
    results = []
    for weight in (bits(dtype), bits.packed()):
        x, bias, a, b = leaves = _leaves(dtype)
        with use_backend(backend):
            y = lora_linear(x, weight, bias, a, b, 0.5, dropout=dropout, seed=7)
            y.square().sum().backward()
        results.append([y, *(leaf.grad for leaf in leaves)])
    for packed, plain in zip(results[1], results[0], strict=True):
        assert packed is not None
        assert torch.equal(packed, plain)


@pytest.mark.parametrize("how", ["one", "mixed", "frozen"])
def test_the_whole_weight_lives_in_each_pass_alone(how: str) -> None:
    bits = Bytes()
    x, bias, a, b = _leaves(torch.float32)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if how == "one":
            y = lora_linear(x, bits.packed(), bias, a, b, 0.5)
        elif how == "mixed":
            ids = torch.tensor([0, 0, 0])
            y = lora_linear_mixed(x, bits.packed(), bias, [Adapter(a, b, 0.5)], ids)
        else:
            y = packed_linear(x, bits.packed(), bias)
    assert (len(bits.made), bits.alive()) == (1, 0)
    assert (OUTPUTS, INPUTS) not in [tuple(tensor.shape) for tensor in saved]
    y.sum().backward()
    assert (len(bits.made), bits.alive()) == (2, 0)
    with torch.no_grad():
        packed_linear(x, bits.packed(), bias)
        lora_linear(x, bits.packed(), bias, a, b, 0.5)
    assert (len(bits.made), bits.alive()) == (4, 0)


@pytest.mark.parametrize("rows", [[0, 0, 1], [1, 0, 1]])
def test_rows_of_several_adapters_are_those_of_the_whole_weight(rows: list[int]) -> None:
    bits = Bytes()
    results = []
    for weight in (bits(torch.float32), bits.packed()):
        x, bias, a, b = leaves = _leaves(torch.float32)
        other = [_leaf(2, INPUTS, seed=5), _leaf(OUTPUTS, 2, seed=6)]
        adapters = [Adapter(a, b, 0.5), Adapter(*other, 2.0)]
        y = lora_linear_mixed(x, weight, bias, adapters, torch.tensor(rows))
        y.square().sum().backward()
        results.append([y, *(leaf.grad for leaf in [*leaves, *other])])
    for packed, plain in zip(results[1], results[0], strict=True):
        assert packed is not None
        assert torch.equal(packed, plain)


@pytest.mark.parametrize("shape", [(INPUTS,), (6, INPUTS), (3, 5, INPUTS)])
def test_a_frozen_layer_without_adapter_is_the_plain_product(shape: tuple[int, ...]) -> None:
    bits = Bytes()
    x, bias = _leaf(*shape, seed=1), _leaf(OUTPUTS, seed=2)
    packed_linear(x, bits.packed(), bias).square().sum().backward()
    again, same = x.detach().requires_grad_(), bias.detach().requires_grad_()
    F.linear(again, bits(torch.float32), same).square().sum().backward()
    torch.testing.assert_close(x.grad, again.grad)
    torch.testing.assert_close(bias.grad, same.grad)


def test_under_autocast_the_weight_is_made_in_its_dtype() -> None:
    bits = Bytes()
    x, bias, a, b = _leaves(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        packed = lora_linear(x, bits.packed(), bias, a, b, 0.5)
        plain = lora_linear(x, bits(torch.float32), bias, a, b, 0.5)
    assert packed.dtype == torch.bfloat16
    assert torch.equal(packed, plain)


def test_a_compiler_sees_the_whole_weight() -> None:
    bits = Bytes()
    x, bias, a, b = _leaves(torch.float32)

    def layer(x: Tensor) -> Tensor:
        packed = Packed(lambda dtype: bits.numbers.to(dtype) / 64, (OUTPUTS, INPUTS), x.device)
        return lora_linear(x, packed, bias, a, b, 0.5)

    torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x), layer(x))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": torch.ones(2, INPUTS + 1)}, "`x` must end with width 16"),
        ({"bias": torch.ones(OUTPUTS, dtype=torch.float64)}, r"`bias` must have dtype .*float32"),
        ({"bias": torch.ones(OUTPUTS + 1)}, r"`bias` must be of shape \(24,\)"),
        ({"a": torch.ones(RANK, INPUTS + 1)}, "A and B must be of shapes"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], says: str) -> None:
    x, bias, a, b = _leaves(torch.float32)
    arguments = {"x": x, "bias": bias, "a": a, "b": b} | change
    with pytest.raises(ValueError, match=says):
        lora_linear(weight=Bytes().packed(), scale=0.5, **arguments)
