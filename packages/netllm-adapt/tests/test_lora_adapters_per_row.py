"""Batches whose rows use different adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt.backbone import load_backbone
from netllm_adapt.lora import (
    Adapter,
    LoraLinear,
    adapters,
    add_lora,
    load_lora,
    lora_linear,
    lora_linear_mixed,
    save_lora,
    train_adapters,
)
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

NAMES = ("abr", "cjs", "vp")
TARGETS: dict[str, Any] = {"abr": None, "cjs": "all-linear", "vp": None}
SORTED, SHUFFLED = (0, 0, 1, 2, 2, 2), (2, 0, 1, 0, 2, 2)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _matrices(ranks: tuple[int, ...] = (1, 5, 3)) -> list[Adapter]:
    return [
        Adapter(
            _draw(r, 7, seed=10 + r).requires_grad_(), _draw(6, r, seed=20 + r).requires_grad_(), s
        )
        for r, s in zip(ranks, (1.0, 0.5, 2.0), strict=True)
    ]


def _leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("ids", [SORTED, SHUFFLED, (1,) * 6, (0, 0, 2, 2, 0, 2)])
@pytest.mark.parametrize("tokens", [(), (4,), (2, 3)])
@pytest.mark.parametrize("turned", [True, False])
def test_each_row_gets_what_its_adapter_alone_gives(
    ids: tuple[int, ...], tokens: tuple[int, ...], turned: bool
) -> None:
    weight = _draw(7, 6, seed=1).t() if turned else _draw(6, 7, seed=1)
    x, bias, mats = _draw(6, *tokens, 7), _draw(6, seed=2), _matrices()
    flat = [part for adapter in mats for part in (adapter.a, adapter.b)]

    def mixed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return lora_linear_mixed(x, weight, bias, mats, torch.tensor(ids))

    def apart(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.stack(
            [lora_linear(x[row], weight, bias, *mats[i][:3]) for row, i in enumerate(ids)]
        )

    results = []
    for run in (mixed, apart):
        own = _leaves(x, weight, bias)
        y = run(*own)
        grads = torch.autograd.grad(y.sin().sum(), [*own, *flat], allow_unused=True)
        results.append([y, *(torch.zeros(()) if g is None or not g.any() else g for g in grads)])
    for mine, single in zip(*results, strict=True):
        torch.testing.assert_close(mine, single.to(mine.dtype))


@pytest.mark.parametrize("ids", [SORTED, SHUFFLED])
def test_gradients_are_right_in_double_precision(ids: tuple[int, ...]) -> None:
    own = _leaves(_draw(6, 2, 7), _draw(6, 7, seed=1), _draw(6, seed=2))
    flat = [part for adapter in _matrices() for part in (adapter.a, adapter.b)]

    def run(x: Tensor, weight: Tensor, bias: Tensor, *flat: Tensor) -> Tensor:
        mats = [Adapter(a, b, 0.7) for a, b in zip(flat[::2], flat[1::2], strict=True)]
        return lora_linear_mixed(x, weight, bias, mats, torch.tensor(ids))

    torch.autograd.gradcheck(run, (*own, *flat))


@pytest.mark.parametrize("ids", [(0, 0, 0, 1, 1, 1), (1, 0, 0, 1, 0, 1)])
def test_dropout_is_each_adapters_own(ids: tuple[int, ...]) -> None:
    x, weight = _draw(6, 4, 7), _draw(6, 7, seed=1)
    first, second, _ = _matrices()
    mats = [Adapter(first.a, first.b, 1.0, dropout=0.5), second]
    rows = torch.tensor(ids)
    grads = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        y = lora_linear_mixed(x, weight, None, mats, rows)
        grads.append(torch.autograd.grad(y[rows == 0].sin().sum(), [first.a, first.b]))
        torch.manual_seed(3)
        alone = lora_linear(x[rows == 0], weight, None, *mats[0][:3], dropout=0.5)
        grads.append(torch.autograd.grad(alone.sin().sum(), [first.a, first.b]))
    torch.testing.assert_close(y[rows == 0], alone)
    torch.testing.assert_close(y[rows == 1], lora_linear(x[rows == 1], weight, None, *second[:3]))
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (torch.tensor([0, 1, 2, 3, 0, 0]), "from 0 to 2: there are 3 adapters; got 3"),
        (torch.tensor([0, -1, 2, 0, 0, 0]), "got -1"),
        (torch.zeros(6), "whole numbers, one per row, got torch.float32"),
        (torch.zeros(6, 1, dtype=torch.long), r"of shape \(6, 1\)"),
        (torch.zeros(5, dtype=torch.long), "each of the 6 rows of `x`, got 5"),
        (torch.tensor(0), r"of shape \(\)"),
        ([0] * 6, "a tensor of whole numbers, one per row, got list"),
    ],
)
def test_ids_out_of_range_are_refused(ids: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"^lora_linear_mixed: .*{says}"):
        lora_linear_mixed(_draw(6, 4, 7), _draw(6, 7), None, _matrices(), ids)


@pytest.mark.parametrize("shape", [(), (7,)])
def test_an_input_without_rows_is_refused(shape: tuple[int, ...]) -> None:
    ids = torch.zeros(7, dtype=torch.long)
    with pytest.raises(ValueError, match=r"^lora_linear_mixed: `x` must have rows and a width"):
        lora_linear_mixed(_draw(*shape), _draw(6, 7), None, _matrices(), ids)


def test_a_batch_of_no_rows_gives_none() -> None:
    ids = torch.zeros(0, dtype=torch.long)
    y = lora_linear_mixed(_draw(0, 4, 7), _draw(6, 7), None, _matrices(), ids)
    assert y.shape == (0, 4, 6)


def test_an_adapter_of_another_size_is_told_by_its_number() -> None:
    mats = _matrices()
    mats[1] = Adapter(_draw(2, 8), _draw(6, 2), 1.0)
    with pytest.raises(ValueError, match=r"adapter 1: .* \(2, 8\) .*made for another model"):
        lora_linear_mixed(_draw(6, 7), _draw(6, 7), None, mats, torch.tensor(SORTED))


def _stir(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3, generator=generator)


@pytest.fixture(params=["tiny-random-llama", "tiny-random-gpt2", "tiny-random-opt"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """One model with three adapters, and three models with one each."""
    singles = {}
    for i, name in enumerate(NAMES):
        bare = load_backbone(request.param, dtype="float32")
        model = add_lora(bare, rank=2 + 3 * i, alpha=4, targets=TARGETS[name], seed=i)
        _stir(model, i)
        save_lora(model, tmp_path / name)
        singles[name] = model
    together: Any = load_backbone(request.param, dtype="float32")
    for name in NAMES:
        together = load_lora(together, tmp_path / name, name=name, trainable=True)
    train_adapters(together, NAMES)
    return together, singles


def _run(model: nn.Module, rows: Tensor) -> Tensor:
    hidden: Tensor = model(inputs_embeds=rows)[0]
    return hidden


def _grads(model: nn.Module, name: str) -> dict[str, Tensor]:
    return {
        n.replace(f".{name}.", "."): p.grad
        for n, p in model.named_parameters()
        if f".{name}." in n and p.grad is not None
    }


@pytest.mark.parametrize("ids", [SORTED, SHUFFLED])
def test_one_model_with_three_adapters_answers_as_the_three_models_alone(
    models: tuple[PeftModel, dict[str, PeftModel]], ids: tuple[int, ...]
) -> None:
    together, singles = models
    x = _draw(6, 9, 64, seed=5).float()
    with adapters(together, [NAMES[i] for i in ids]):
        mixed = _run(together, x)
    mixed.square().mean().backward()
    for i, name in enumerate(NAMES):
        rows = torch.tensor([row for row, adapter in enumerate(ids) if adapter == i])
        alone = _run(singles[name], x[rows])
        torch.testing.assert_close(mixed[rows], alone, rtol=1e-5, atol=1e-5)
        (alone.square().sum() / mixed.numel()).backward()
        mine, theirs = _grads(together, name), _grads(singles[name], "default")
        assert len(mine) == len(theirs) > 0
        for key, grad in theirs.items():
            torch.testing.assert_close(mine[key], grad, rtol=1e-4, atol=1e-5)


def _three() -> PeftModel:
    model: Any = load_backbone("tiny-random", dtype="float32")
    for i, name in enumerate(NAMES):
        model = add_lora(model, rank=2 + i, name=name, targets=TARGETS[name], seed=i)
    _stir(model, 1)
    assert isinstance(model, PeftModel)
    return model


def test_names_numbers_and_tensors_mean_the_same_and_the_context_ends() -> None:
    model, x = _three(), _draw(3, 5, 64).float()
    before = _run(model, x)
    answers = []
    for ids in (["vp", "abr", "cjs"], [2, 0, 1], torch.tensor([2, 0, 1])):
        with adapters(model, ids):
            answers.append(_run(model, x))
    with adapters(model, [0, 1, 2], names=["vp", "abr", "cjs"]):
        answers.append(_run(model, x))
    assert all(torch.equal(answers[0], other) for other in answers[1:])
    assert not torch.allclose(answers[0], before)
    assert torch.equal(_run(model, x), before)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's, of what it cannot trace
@pytest.mark.parametrize("ids", [SORTED, SHUFFLED, (1,) * 6])
def test_a_compiled_layer_gives_each_row_its_adapter(ids: tuple[int, ...]) -> None:
    layer = next(module for module in _three().modules() if isinstance(module, LoraLinear))
    _stir(layer, 3)
    x = _draw(6, 4, layer.in_features).float()
    compiled = torch.compile(layer, backend="aot_eager")
    results = []
    for run in (layer, compiled):
        rows = x.clone().requires_grad_()
        with adapters(layer, ids, names=NAMES):
            outputs = run(rows)
            outputs.sum().backward()
        results.append((outputs.detach(), rows.grad))
    for mine, plain in zip(*results, strict=True):
        torch.testing.assert_close(mine, plain)


def test_rows_may_use_no_adapter() -> None:
    model, x = _three(), _draw(3, 5, 64).float()
    with adapters(model, ["__base__", "vp", "__base__"]):
        mixed = _run(model, x)
    with model.disable_adapter():
        plain = _run(model, x)
    torch.testing.assert_close(mixed[[0, 2]], plain[[0, 2]])
    assert not torch.allclose(mixed[1], plain[1])


def test_checkpointing_inside_the_context_changes_no_gradient() -> None:
    grads = []
    for saves in (False, True):
        model, x = _three(), _draw(3, 5, 64).float()
        with adapters(model, NAMES):
            hidden = checkpoint(_run, model, x, use_reentrant=False) if saves else _run(model, x)
            hidden.square().mean().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("reentrant", [True, False])
def test_the_models_own_checkpointing_repeats_its_context(reentrant: bool) -> None:
    grads = []
    for saves in (False, True):
        model, x = _three().train(), _draw(3, 5, 64).float().requires_grad_()
        if saves:
            model.get_base_model().gradient_checkpointing_enable({"use_reentrant": reentrant})
        with adapters(model, ["abr", "abr", "cjs"]):
            first = _run(model, x)
            with adapters(model, ["vp", "vp", "vp"]):
                second = _run(model, x)
        (first - second + _run(model, x)).square().mean().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_that_leaves_the_context_is_refused(reentrant: bool) -> None:
    model, x = _three(), _draw(3, 5, 64).float().requires_grad_()
    with adapters(model, NAMES):
        hidden = checkpoint(_run, model, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match=r"^layers\.0\..*outside of `adapters`"):
        hidden.sum().backward()
    checkpoint(_run, model, x, use_reentrant=reentrant).sum().backward()


def test_a_layer_that_is_merged_in_the_context_is_refused() -> None:
    model, x = _three(), _draw(3, 5, 64).float()
    with adapters(model, NAMES):
        model.merge_adapter()
        with pytest.raises(ValueError, match=r"^layers\.0.*only unmerged"):
            _run(model, x)


def test_only_the_named_adapters_train() -> None:
    model = _three()
    train_adapters(model, ["cjs"])
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".cjs." in n for n in trained)
    with pytest.raises(ValueError, match=r"one of abr, cjs, vp, got 'cj'\. Did you mean 'cjs'"):
        train_adapters(model, ["cj"])


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["abr", "abbr"], r"one of abr, cjs, vp, __base__, got 'abbr'\. Did you mean 'abr'"),
        ([0, 3], "from 0 to 2: there are 3 adapters; got 3"),
        (torch.tensor([0.5]), "whole numbers"),
        ([0.5], "whole numbers"),
        (["abr", 0], r"all be names or all be numbers, got \['abr', 0\]"),
        ([None], "all be names or all be numbers"),
    ],
)
def test_unknown_adapters_are_refused(ids: Any, says: str) -> None:
    layers = r"^layers\.0\.self_attn\.q_proj … layers\.3\."
    with pytest.raises(ValueError, match=f"{layers}.*{says}"), adapters(_three(), ids):
        raise AssertionError


def test_a_batch_of_another_length_is_refused_by_the_layer() -> None:
    model = _three()
    with (
        pytest.raises(ValueError, match=r"^layers\.0\.self_attn\.q_proj: .* told of 2 rows.* 3"),
        adapters(model, ["abr", "vp"]),
    ):
        _run(model, _draw(3, 5, 64).float())
    assert all(m.route is None for m in model.modules() if isinstance(m, LoraLinear))


def test_an_adapter_for_another_model_names_the_layer() -> None:
    model = _three()
    layer = next(m for m in model.modules() if isinstance(m, LoraLinear))
    layer.lora_A["vp"] = nn.Linear(65, 4, bias=False)
    with (
        pytest.raises(ValueError, match=r"^layers\.0\.self_attn\.q_proj, adapter 'vp': .*another"),
        adapters(model, NAMES),
    ):
        _run(model, _draw(3, 5, 64).float())


def test_what_cannot_mix_names_the_layer() -> None:
    dora: Any = add_lora(load_backbone("tiny-random"), rank=2, name="abr", use_dora=True)
    with pytest.raises(ValueError, match=r"^layers\.0.*'abr' is not"), adapters(dora, ["abr"]):
        raise AssertionError
    model = _three()
    model.merge_adapter()
    with pytest.raises(ValueError, match=r"^layers\.0.*unmerged"), adapters(model, NAMES):
        raise AssertionError
    bare = load_backbone("tiny-random")
    with pytest.raises(ValueError, match="must hold adapters"), adapters(bare, ["abr"]):
        raise AssertionError
