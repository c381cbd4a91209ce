"""Layers that share their input, one shrink for all."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
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
    return tuple(
        F.linear(x, w, bias) if pair is None else lora_linear(x, w, bias, *pair, s)
        for w, bias, pair, s in layers
    )


def _leaves(x: Tensor, p: dict[str, Any]) -> list[Tensor]:
    biases = [bias for bias in p["biases"] if bias is not None]
    return [x, *p["weights"], *biases, *(part for pair in p["matrices"] if pair for part in pair)]


def _results(outputs: tuple[Tensor, ...], leaves: list[Tensor]) -> list[Tensor]:
    loss = torch.stack([(i + 1) * y.sin().sum() for i, y in enumerate(outputs)]).sum()
    return [*outputs, *torch.autograd.grad(loss, leaves)]


def _with(p: dict[str, Any], frozen: tuple[int, ...]) -> dict[str, Any]:
    pairs = [None if i in frozen else pair for i, pair in enumerate(p["matrices"])]
    return p | {"matrices": pairs}


@pytest.mark.parametrize("rows", [(1,), (2, 5), (0, 3)])
@pytest.mark.parametrize("frozen", [(), (1,), (0, 2), (0, 1, 2)])
def test_outputs_and_gradients_are_those_of_the_layers_apart(
    rows: tuple[int, ...], frozen: tuple[int, ...]
) -> None:
    x, p = _parts(rows)
    p = _with(p, frozen)
    mine, apart = (_results(f, _leaves(x, p)) for f in (lora_linear_grouped(x, **p), _apart(x, p)))
    for some, right in zip(mine, apart, strict=True):
        torch.testing.assert_close(some, right)


def test_outputs_that_are_not_used_cost_no_gradient() -> None:
    x, p = _parts()
    mine, apart = (f[1].sin().sum() for f in (lora_linear_grouped(x, **p), _apart(x, p)))
    leaves = [x, p["biases"][1], *p["matrices"][1]]
    for some, right in zip(
        torch.autograd.grad(mine, leaves, retain_graph=True),
        torch.autograd.grad(apart, leaves),
        strict=True,
    ):
        torch.testing.assert_close(some, right)
    assert torch.autograd.grad(mine, p["matrices"][0], allow_unused=True) == (None, None)


def test_without_gradients_the_outputs_are_the_same() -> None:
    x, p = _parts()
    with torch.no_grad():
        for some, right in zip(lora_linear_grouped(x, **p), _apart(x, p), strict=True):
            torch.testing.assert_close(some, right)


@pytest.mark.parametrize("frozen", [(), (1,)])
def test_compiled_in_one_graph_it_gives_what_eager_code_gives(frozen: tuple[int, ...]) -> None:
    x, p = _parts()
    p = _with(p, frozen)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * y for y in lora_linear_grouped(x, **p))

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for mine, eager in zip(
        _results(compiled(x), _leaves(x, p)), _results(run(x), _leaves(x, p)), strict=True
    ):
        torch.testing.assert_close(mine, eager)


def test_the_compiled_graph_holds_one_operation_for_the_group() -> None:
    x, p = _parts()
    names: list[str] = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
        for part in graph.modules():  # the passes of an autograd.Function are graphs of their own
            names.extend(
                str(node.target) for node in getattr(part, "graph", torch.fx.Graph()).nodes
            )
        return graph.forward

    torch._dynamo.reset()
    torch.compile(lambda x: lora_linear_grouped(x, **p), fullgraph=True, backend=keep)(x)
    assert sum("netllm.lora_linear.default" in name for name in names) == 1


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
    with pytest.raises(ValueError, match=r"as many .* got \[3, 3, 3, 2\]"):
        lora_linear_grouped(x, **(p | {"scales": SCALES[:2]}))


def test_a_layer_that_does_not_fit_is_told_by_its_number() -> None:
    x, p = _parts()
    p["matrices"][2] = p["matrices"][1]
    with pytest.raises(ValueError, match=r"^lora_linear_grouped, layer 2: A and B must be"):
        lora_linear_grouped(x, **p)


@pytest.mark.parametrize("learns", [True, False])
def test_frozen_layers_keep_nothing_of_their_input(learns: bool) -> None:
    x, p = _parts()
    frozen = {"weights": [w.detach() for w in p["weights"]], "biases": [None] * 3}
    matrices = p["matrices"] if learns else [None] * 3
    seen: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: seen.append(t.data_ptr()) or t, lambda t: t
    ):
        ys = lora_linear_grouped(x, **(p | frozen | {"matrices": matrices}))
    assert (x.data_ptr() in seen) == learns
    (grad,) = torch.autograd.grad(ys, x, [torch.ones_like(y) for y in ys])
    if not learns:
        right = sum(w.sum(0) for w in frozen["weights"])
        torch.testing.assert_close(grad, right.expand(x.shape))
