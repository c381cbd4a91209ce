"""The registered operation: what torch's compilers, checkpointing and autocast do with it."""

import warnings
from typing import Any

import pytest
import torch
from netllm_adapt.backbone import load_backbone
from netllm_adapt.lora import LoraLinear, add_lora, lora_linear
from netllm_adapt.lora.autograd_function import lora_linear_backward_op, lora_linear_op
from torch import Tensor, library, nn
from torch.utils.checkpoint import checkpoint

# Inductor's own build of C++ is left out: in one process with other packages its imports of
# setuptools and distutils contradict each other.
COMPILERS = ["aot_eager"]


def _parts(dtype: torch.dtype = torch.float64, *, grads: bool = True) -> list[Tensor]:
    """x, weight, bias, a, b."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 5, 7), (6, 7), (6,), (3, 7), (6, 3))
    drawn = [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]
    return [value.requires_grad_(grads) for value in drawn]


def _layer(dropout: float = 0.0) -> tuple[nn.Module, LoraLinear]:
    model = add_lora(load_backbone("tiny-random", dtype="float32"), rank=4, dropout=dropout)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
    return model, next(m for m in model.modules() if isinstance(m, LoraLinear))


def _results(run: Any, inputs: list[Tensor]) -> list[Tensor]:
    y = run(*inputs)
    return [y, *torch.autograd.grad(y.sin().sum(), [i for i in inputs if i.requires_grad])]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_operations_pass_torchs_own_checks(dropout: float, with_bias: bool) -> None:
    x, weight, bias, a, b = _parts(torch.float32, grads=False)
    tensors = [bias if with_bias else None, weight, a, b]
    group = x, tensors, [0], [0.5], [dropout], torch.tensor([5])
    library.opcheck(lora_linear_op, group)
    y, small = lora_linear_op(*group)
    for needs in ([True, with_bias, True, True, True], [False, False, False, True, True]):
        library.opcheck(lora_linear_backward_op, ([torch.ones_like(y)], [small], needs, *group))


def test_the_operations_over_a_group_pass_torchs_own_checks() -> None:
    x, weight, bias, a, b = _parts(torch.float32, grads=False)
    biases, weights = [bias, None, torch.ones(8)], [weight, torch.ones(4, 7), torch.ones(8, 7)]
    pairs = [a, torch.ones(2, 7), b, torch.ones(8, 2)]
    group = x, [*biases, *weights, *pairs], [0, 2], [0.5, 1.0], [0.0, 0.0], None
    library.opcheck(lora_linear_op, group)
    *ys, one, two = lora_linear_op(*group)
    needs = [True, *[False] * 6, *[True] * 4]
    library.opcheck(lora_linear_backward_op, (ys, [one, two], needs, *group))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_compiled_in_one_graph_it_gives_what_eager_code_gives(
    compiler: str, dropout: float
) -> None:
    def run(*p: Tensor) -> Tensor:
        return lora_linear(*p, 0.5, dropout=dropout, seed=3) * 2

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend=compiler)
    for mine, plain in zip(_results(compiled, _parts()), _results(run, _parts()), strict=True):
        torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_layer_compiles_in_one_graph(compiler: str) -> None:
    _, layer = _layer()
    x = torch.randn(2, 9, layer.in_features, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=compiler)
    for mine, plain in zip(_results(compiled, [x]), _results(layer, [x]), strict=True):
        torch.testing.assert_close(mine, plain)


def test_compiled_dropout_is_drawn_anew_in_each_call() -> None:
    _, layer = _layer(dropout=0.5)
    layer.train()
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.ones(3, layer.in_features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one, two = compiled(x), compiled(x)
        torch.manual_seed(1)
        again = compiled(x)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


def test_a_layer_is_exported_with_the_operation_in_its_graph() -> None:
    _, layer = _layer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(layer, (torch.ones(3, layer.in_features),))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert "netllm.lora_linear.default" in names


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradient_checkpointing_changes_no_gradient(reentrant: bool, dropout: float) -> None:
    def run(*p: Tensor) -> Tensor:
        return lora_linear(*p, 0.5, dropout=dropout)

    def saved(*p: Tensor) -> Any:
        return checkpoint(run, *p, use_reentrant=reentrant)

    def gradients(call: Any) -> list[Tensor | None]:
        p = _parts()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            call(*p).sin().sum().backward()
        return [value.grad for value in p]

    for mine, plain in zip(gradients(saved), gradients(run), strict=True):
        torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize("matrices", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_its_dtype_and_gradients_keep_theirs(matrices: torch.dtype) -> None:
    x, weight, bias, a, b = _parts(torch.float32)
    a, b = (value.detach().to(matrices).requires_grad_() for value in (a, b))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = lora_linear(x, weight, bias, a, b, 0.5)
    y.float().sin().sum().backward()
    low = [value.detach().bfloat16() for value in (x, weight, bias, a, b)]
    assert torch.equal(y, lora_linear(*low, 0.5))
    assert [t.grad.dtype for t in (x, weight, bias, a, b) if t.grad is not None] == [
        *[torch.float32] * 3,
        *[matrices] * 2,
    ]


def test_a_layer_under_autocast_agrees_with_pefts_own_forward() -> None:
    _, layer = _layer()
    x = torch.randn(4, layer.in_features, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine, theirs = layer(x), super(LoraLinear, layer).forward(x)
    assert mine.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-2)


def test_gradients_of_gradients_are_refused_clearly() -> None:
    x, *rest = _parts()
    (grad,) = torch.autograd.grad(lora_linear(x, *rest, 0.5).sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()


def test_a_layers_errors_name_the_layer() -> None:
    model, layer = _layer()
    name = "layers.0.self_attn.q_proj"
    assert dict(model.named_modules())[f"base_model.model.{name}"] is layer
    with pytest.raises(ValueError, match=f"^{name}: `x` must end with width 64"):
        layer(torch.ones(2, 63))
    with pytest.raises(ValueError, match=f"^{name}: `x` must have the dtype"):
        layer(torch.ones(2, 64, dtype=torch.float16))
    layer.lora_B["default"].weight = nn.Parameter(torch.ones(63, 4))
    with pytest.raises(ValueError, match=f"^{name}: .*made for another model"):
        layer(torch.ones(2, 64))
