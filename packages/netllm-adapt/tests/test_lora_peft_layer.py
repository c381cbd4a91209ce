"""Layers that read the same tensor, by one operation where that is possible."""

from typing import Any

import pytest
import torch
from netllm_adapt import add_lora, load_backbone
from netllm_adapt.lora import adapters, outputs_of, train_adapters
from torch import Tensor, nn

NAMES = ("abr", "vp")


def adapted(kind: str = "llama", *names: str, dtype: str = "float32", **options: Any) -> Any:
    model: Any = load_backbone(f"tiny-random-{kind}", dtype=dtype, seed=1)
    for seed, name in enumerate(names or ("default",)):
        model = add_lora(model, rank=4, alpha=6, name=name, seed=seed, **options)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1, generator=generator)
    return model.train()


def projections(model: Any) -> list[nn.Module]:
    attention = model.get_base_model().layers[0].self_attn
    return [attention.q_proj, attention.k_proj, attention.v_proj]


def tokens_of(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 40, model.config.hidden_size, generator=generator)
    return x.to(model.dtype).requires_grad_()


def results(model: Any, *, at_once: bool, x: Tensor | None = None) -> list[Tensor]:
    """The outputs of q, k and v, and the gradients of x and of what learns."""
    layers, x = projections(model), tokens_of(model) if x is None else x
    with torch.random.fork_rng():
        torch.manual_seed(3)
        ys = outputs_of(layers, x) if at_once else tuple(layer(x) for layer in layers)
    trained = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    loss = torch.stack([(i + 1) * y.float().sin().sum() for i, y in enumerate(ys)]).sum()
    grads = torch.autograd.grad(loss, [x, *trained], allow_unused=True)
    return [*ys, *(grad for grad in grads if grad is not None)]


def is_one_operation(model: Any) -> bool:
    ys = outputs_of(projections(model), tokens_of(model))
    return len({y.grad_fn for y in ys}) == 1


def assert_near(mine: list[Tensor], right: list[Tensor], *, within: float = 2e-6) -> None:
    for one, other in zip(mine, right, strict=True):
        error = (one.double() - other.double()).norm() / other.double().norm()
        assert error <= within


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3"])
@pytest.mark.parametrize("targets", [None, "all-linear"])
def test_outputs_and_gradients_are_those_of_layers_one_by_one(kind: str, targets: Any) -> None:
    model = adapted(kind, targets=targets)
    assert is_one_operation(model)
    assert_near(results(model, at_once=True), results(model, at_once=False))


def test_bfloat16_agrees_within_its_rounding() -> None:
    model = adapted(dtype="bfloat16", targets="all-linear")
    assert is_one_operation(model)
    assert_near(results(model, at_once=True), results(model, at_once=False), within=3e-2)


def test_autocast_computes_at_once_in_its_dtype() -> None:
    model = adapted(targets="all-linear")
    with torch.autocast("cpu", torch.bfloat16):
        mine, right = (results(model, at_once=a) for a in (True, False))
        assert is_one_operation(model)
    assert mine[0].dtype == torch.bfloat16
    assert_near(mine, right, within=3e-2)


def test_rows_of_several_adapters_go_layer_by_layer_and_come_back() -> None:
    model = adapted("llama", *NAMES)
    train_adapters(model, NAMES)
    with adapters(model, list(NAMES)):
        assert not is_one_operation(model)
        assert_near(results(model, at_once=True), results(model, at_once=False))
    assert is_one_operation(model)


@pytest.mark.filterwarnings("ignore:.*the targeted layer of type Linear has no bias")
@pytest.mark.parametrize("options", [{"dropout": 0.3}, {"use_dora": True}, {"lora_bias": True}])
def test_dropout_and_what_peft_computes_go_layer_by_layer(options: dict[str, Any]) -> None:
    model = adapted(**options)
    assert not is_one_operation(model)
    assert_near(results(model, at_once=True), results(model, at_once=False), within=0)


def test_layers_compile_in_one_graph_at_once() -> None:
    model = adapted(targets="all-linear")
    layers, x = projections(model), tokens_of(model)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: outputs_of(layers, x), fullgraph=True, backend="aot_eager")
    for mine, eager in zip(compiled(x), outputs_of(layers, x), strict=True):
        torch.testing.assert_close(mine, eager)


def test_a_layer_that_is_given_a_wrong_input_is_named() -> None:
    model = adapted(targets="all-linear")
    with pytest.raises(ValueError, match=r"^layers\.0\.self_attn\.q_proj: `x` must end with width"):
        outputs_of(projections(model), tokens_of(model)[..., :-1])
