"""Layers that share their input, one shrink for all."""

from typing import Any

import pytest
import torch
from netllm_adapt.lora import lora_linear, lora_linear_grouped
from torch import Tensor

OUTPUTS, RANKS, SCALES = (6, 4, 5), (3, 1, 2), (1.0, 0.5, 2.0)


def _draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def _parts(rows: tuple[int, ...] = (2, 5)) -> tuple[Tensor, dict[str, Any]]:
    sides = list(zip(OUTPUTS, RANKS, strict=True))
    return _draw(*rows, 7, seed=0), {
        "weights": [_draw(n, 7, seed=n) for n in OUTPUTS],
        "biases": [None, _draw(4, seed=40), None],
        "matrices": [(_draw(r, 7, seed=10 + r), _draw(n, r, seed=20 + r)) for n, r in sides],
        "scales": SCALES,
    }


def _apart(x: Tensor, p: dict[str, Any]) -> tuple[Tensor, ...]:
    layers = zip(p["weights"], p["biases"], p["matrices"], p["scales"], strict=True)
    return tuple(lora_linear(x, w, bias, a, b, s) for w, bias, (a, b), s in layers)


def _leaves(x: Tensor, p: dict[str, Any]) -> list[Tensor]:
    biases = [bias for bias in p["biases"] if bias is not None]
    return [x, *p["weights"], *biases, *(part for pair in p["matrices"] for part in pair)]


@pytest.mark.parametrize("rows", [(1,), (2, 5), (0, 3)])
def test_outputs_and_gradients_are_those_of_the_layers_apart(rows: tuple[int, ...]) -> None:
    x, p = _parts(rows)
    results = []
    for outputs in (lora_linear_grouped(x, **p), _apart(x, p)):
        loss = torch.stack([(i + 1) * y.sin().sum() for i, y in enumerate(outputs)]).sum()
        results.append([*outputs, *torch.autograd.grad(loss, _leaves(x, p))])
    for mine, apart in zip(*results, strict=True):
        torch.testing.assert_close(mine, apart)


def test_matrices_of_another_dtype_keep_it() -> None:
    x, p = _parts()
    x = x.detach().bfloat16().requires_grad_()
    p["weights"] = [weight.detach().bfloat16() for weight in p["weights"]]
    p["biases"] = [None] * 3
    p["matrices"] = [
        (a.detach().float().requires_grad_(), b.detach().float().requires_grad_())
        for a, b in p["matrices"]
    ]
    outputs = lora_linear_grouped(x, **p)
    torch.stack([y.sum() for y in outputs]).sum().backward()
    assert {y.dtype for y in outputs} == {torch.bfloat16}
    assert {part.grad.dtype for pair in p["matrices"] for part in pair} == {torch.float32}
    for mine, apart in zip(outputs, _apart(x, p), strict=True):
        torch.testing.assert_close(mine, apart, rtol=2e-2, atol=2e-2)


def test_a_group_of_uneven_lengths_is_refused() -> None:
    x, p = _parts()
    with pytest.raises(ValueError, match=r"as many .* got 3, 3, 3 and 2"):
        lora_linear_grouped(x, **(p | {"scales": SCALES[:2]}))


def test_a_layer_that_does_not_fit_is_told_by_its_number() -> None:
    x, p = _parts()
    p["matrices"][2] = p["matrices"][1]
    with pytest.raises(ValueError, match=r"^lora_linear_grouped, layer 2: A and B must be"):
        lora_linear_grouped(x, **p)
