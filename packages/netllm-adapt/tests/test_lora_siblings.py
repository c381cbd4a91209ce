"""Siblings of a fused model: when a layer takes its part of a group, and when it computes alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt import add_lora, load_backbone, load_lora
from netllm_adapt.lora import save_lora
from netllm_adapt.lora._fuse import begin, end
from torch import Tensor, nn


def _mlp() -> tuple[Any, Tensor]:
    """An MLP whose projections are fused, and an input of it."""
    model = add_lora(
        load_backbone("tiny-random-llama", dtype="float32"),
        rank=4,
        targets="all-linear",
        fuse=True,
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, 5, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    return model.get_base_model().layers[0].mlp, x.requires_grad_()


def _is_of_group(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_GroupedBackward"


def test_a_sibling_takes_its_part_once_and_only_of_the_same_tensor() -> None:
    mlp, x = _mlp()
    right = mlp.up_proj(x)
    assert not _is_of_group(right)  # the parent does not run
    begin(mlp)
    gate, other = mlp.gate_proj(x), mlp.up_proj(x.clone())
    up, again = mlp.up_proj(x), mlp.up_proj(x)
    end(mlp)
    assert [_is_of_group(y) for y in (gate, other, up, again)] == [True, False, True, False]
    for found in (other, up, again):
        torch.testing.assert_close(found, right)
    assert not _is_of_group(mlp.up_proj(x))


def test_a_tensor_that_changed_since_is_read_again() -> None:
    mlp, x = _mlp()
    changed = x.detach().clone()
    begin(mlp)
    mlp.up_proj(changed)  # any sibling may come first
    changed.mul_(2)
    gate = mlp.gate_proj(changed)
    end(mlp)
    torch.testing.assert_close(gate, mlp.gate_proj(x * 2))


def test_a_parent_that_fails_keeps_nothing() -> None:
    mlp, x = _mlp()
    with pytest.raises(ValueError, match=r"^layers\.0\.mlp\.gate_proj: `x` must end with width"):
        mlp(x[..., :-1])
    down = mlp.down_proj
    mlp.down_proj = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="shapes"):
        mlp(x)
    mlp.down_proj = down
    assert mlp.gate_proj.siblings is None
    assert mlp.up_proj.siblings is None


def test_a_fused_part_compiles_in_one_graph() -> None:
    mlp, x = _mlp()
    torch._dynamo.reset()
    compiled = torch.compile(mlp, fullgraph=True, backend="aot_eager")
    results = []
    for run in (compiled, mlp):
        y = run(x)
        results.append([y, *torch.autograd.grad(y.sin().sum(), [x, *_trained(mlp)])])
    for mine, eager in zip(*results, strict=True):
        torch.testing.assert_close(mine, eager)


def _trained(module: nn.Module) -> list[Tensor]:
    return [p for p in module.parameters() if p.requires_grad]


@pytest.mark.parametrize("name", ["tiny-random-gpt2", "tiny-random-opt", "tiny-random-gemma3"])
def test_models_that_are_not_listed_are_refused_before_they_change(
    name: str, tmp_path: Path
) -> None:
    model = load_backbone(name, dtype="float32")
    says = "type llama, mistral, qwen2, qwen3, got a " + type(model).__name__
    with pytest.raises(ValueError, match=says):
        add_lora(model, rank=2, fuse=True)
    save_lora(add_lora(model, rank=2), tmp_path)
    with pytest.raises(ValueError, match=says):
        load_lora(load_backbone(name, dtype="float32"), tmp_path, fuse=True)
