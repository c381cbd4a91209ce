from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lora_reference import reference
from netllm_adapt.lora import (
    Adapter,
    chosen_backend,
    lora_linear,
    lora_linear_grouped,
    lora_linear_mixed,
    use_backend,
)
from netllm_adapt.lora.dropout import draw_mask, masked
from torch import Tensor


def _parts(
    rows: tuple[int, ...] = (2, 5), inputs: int = 7, outputs: int = 6, rank: int = 3
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "x": (*rows, inputs),
        "weight": (outputs, inputs),
        "bias": (outputs,),
        "a": (rank, inputs),
        "b": (outputs, rank),
    }
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def test_the_output_is_the_papers_formula() -> None:
    p = _parts()
    x, w, bias, a, b = (value.numpy() for value in p.values())
    y = lora_linear(*p.values(), 0.5)
    np.testing.assert_allclose(y, x @ w.T + bias + 0.5 * (x @ a.T) @ b.T, rtol=1e-12)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients_are_right_in_double_precision(dropout: float, with_bias: bool) -> None:
    p = {name: value.requires_grad_() for name, value in _parts().items()}

    def run(x: Tensor, weight: Tensor, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        return lora_linear(x, weight, bias, a, b, 0.7, dropout=dropout, seed=11)

    torch.autograd.gradcheck(
        run, (p["x"], p["weight"], p["a"], p["b"], p["bias"] if with_bias else None)
    )


@pytest.mark.parametrize("rows", [(1,), (3, 1), (0, 4), (2, 3, 5)])
@pytest.mark.parametrize("rank", [1, 6])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_any_shape_gives_what_the_plain_formula_gives(
    rows: tuple[int, ...], rank: int, dropout: float
) -> None:
    results = []
    for run in (reference, lora_linear):
        p = {n: v.requires_grad_() for n, v in _parts(rows, rank=rank).items()}
        y = run(*p.values(), 2.0, dropout=dropout, seed=5)
        y.sin().sum().backward()
        results.append([y, *(value.grad for value in p.values())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_transposed_weight_and_a_strided_input_are_taken() -> None:
    p = _parts(rows=(5, 2))
    flipped = {**p, "weight": p["weight"].t().contiguous().t(), "x": p["x"].transpose(0, 1)}
    torch.testing.assert_close(
        lora_linear(*flipped.values(), 1.0), lora_linear(*p.values(), 1.0).transpose(0, 1)
    )


def test_autocast_leaves_double_precision_alone_as_in_a_linear_layer() -> None:
    p = _parts()
    exact = lora_linear(*p.values(), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert F.linear(p["x"], p["weight"]).dtype == torch.float64
        assert torch.equal(lora_linear(*p.values(), 1.0), exact)
        with pytest.raises(
            ValueError, match=r"`x` must have the dtype .*torch\.bfloat16 .*got .*float64"
        ):
            lora_linear(*{**p, "weight": p["weight"].float()}.values(), 1.0)
        assert lora_linear(*(v.float() for v in p.values()), 1.0).dtype == torch.bfloat16


def test_tensors_without_numbers_have_shapes() -> None:
    p = {name: value.to("meta").requires_grad_() for name, value in _parts().items()}
    y = lora_linear(*p.values(), 1.0)
    y.sum().backward()
    assert (y.device.type, y.shape) == ("meta", (2, 5, 6))
    assert all(value.grad is not None and value.grad.shape == value.shape for value in p.values())


def test_low_precision_is_as_accurate_as_eager_and_gradients_keep_their_dtype() -> None:
    # KERNELS.md, "Testing": error against fp64 at most 1.25 times that of eager code.
    p = _parts(rows=(512,), inputs=96, outputs=80, rank=16)
    p["a"], p["b"] = p["a"] / 10, p["b"] / 10

    def run(call: Any, dtype: torch.dtype) -> list[Tensor]:
        q = {n: v.clone().to(dtype) for n, v in p.items()}
        if dtype == torch.bfloat16:
            q |= {"a": p["a"].float(), "b": p["b"].float()}
        y = call(*(v.requires_grad_() for v in q.values()), 0.5)
        y.backward(torch.ones_like(y))
        return [y.detach(), *(v.grad for v in q.values() if v.grad is not None)]

    exact = run(reference, torch.float64)
    eager, ours = (run(call, torch.bfloat16) for call in (reference, lora_linear))
    assert [t.dtype for t in ours] == [torch.bfloat16] * 4 + [torch.float32] * 2
    for truth, theirs, mine in zip(exact, eager, ours, strict=True):
        assert (mine.double() - truth).norm() <= 1.25 * (theirs.double() - truth).norm()


def test_only_x_and_the_small_product_are_kept_for_the_backward_pass() -> None:
    p = _parts(rows=(50,), inputs=20, outputs=30)
    for name in ("x", "a", "b"):
        p[name].requires_grad_()
    sizes = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and not any(tensor is value for value in p.values()):
            sizes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        lora_linear(*p.values(), 1.0, dropout=0.5, seed=1)
    assert sizes == [(50, 3)]


def test_results_repeat_bit_by_bit() -> None:
    runs = []
    for _ in range(2):
        p = {n: v.bfloat16().requires_grad_() for n, v in _parts(rows=(64,)).items()}
        y = lora_linear(*p.values(), 1.0, dropout=0.1, seed=9)
        y.sum().backward()
        runs.append([y, p["a"].grad, p["b"].grad, p["x"].grad])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_dropout_drops_its_share_by_its_seed(share: float) -> None:
    x = torch.empty(301, 333)
    mask = draw_mask(x, share, 4) != 0
    # Five standard deviations of a binomial share.
    spread = 5 * (share * (1 - share) / x.numel()) ** 0.5
    assert mask.float().mean().item() == pytest.approx(1 - share, abs=spread)
    assert torch.equal(mask, draw_mask(x, share, 4) != 0)
    assert not torch.equal(mask, draw_mask(x, share, 5) != 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_masked_tensor_keeps_its_survivors_exactly(dtype: torch.dtype) -> None:
    x = _parts(rows=(40,))["x"].to(dtype)
    mask = draw_mask(x, 0.5, 2)
    assert torch.equal(masked(x, mask), torch.where(mask != 0, x, 0))


def test_dropout_touches_the_low_rank_part_alone_and_keeps_its_mean() -> None:
    p = _parts(rows=(1,))
    draws = torch.stack([lora_linear(*p.values(), 1.0, dropout=0.4, seed=s) for s in range(4000)])
    whole = lora_linear(*p.values(), 1.0)
    p["b"] = torch.zeros_like(p["b"])
    frozen = lora_linear(*p.values(), 1.0, dropout=0.4, seed=1)
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - whole).abs() < 5 * error).all()
    torch.testing.assert_close(frozen, F.linear(p["x"], p["weight"], p["bias"]))


def test_without_a_seed_the_global_stream_decides() -> None:
    p = _parts()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one, two = (lora_linear(*p.values(), 1.0, dropout=0.5) for _ in range(2))
        torch.manual_seed(1)
        again = lora_linear(*p.values(), 1.0, dropout=0.5)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


def test_inputs_of_another_dtype_than_the_weight_are_refused() -> None:
    p = _parts()
    with pytest.raises(
        ValueError,
        match=r"lora_linear: `x` must have .*torch\.float64 on cpu, .*got torch\.float32",
    ):
        lora_linear(p["x"].float(), p["weight"], p["bias"], p["a"], p["b"], 1.0)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_that_is_no_share_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match=f"below 1, got {dropout}"):
        lora_linear(*_parts().values(), 1.0, dropout=dropout)


def test_an_unknown_back_end_lists_the_known() -> None:
    with (
        pytest.raises(ValueError, match="one of torch, triton, got 'cuda'"),
        use_backend("cuda"),
    ):
        raise AssertionError


def test_the_environment_chooses_a_back_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, _, a, _ = _parts().values()
    assert chosen_backend(x, weight, a) == "torch"
    monkeypatch.setenv("NETLLM_LORA_BACKEND", "triton")
    assert chosen_backend(x, weight, a) == "triton"
    with use_backend("torch"):
        assert chosen_backend(x, weight, a) == "torch"
    monkeypatch.setenv("NETLLM_LORA_BACKEND", "cuda")
    with pytest.raises(ValueError, match="got 'cuda'"):
        chosen_backend(x, weight, a)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"a": (0, 7), "b": (6, 0)}, "rank must be from 1 to 6, .* got 0"),
        ({"a": (7, 7), "b": (6, 7)}, "rank must be from 1 to 6, .* got 7"),
        ({"x": (2, 5, 8)}, r"`x` must end with width 7, got shape \(2, 5, 8\)"),
        ({"b": (5, 3)}, r"got \(3, 7\) and \(5, 3\)\. Was the adapter made for another model"),
        ({"b": (6, 2)}, r"must be of shapes \(3, 7\) and \(6, 3\)"),
        ({"x": ()}, r"`x` must end with width 7, got shape \(\)"),
        ({"b": (6,)}, r"must be matrices, got shapes \[\(6, 7\), \(3, 7\), \(6,\)\]"),
        ({"a": (7,)}, r"must be matrices, .* \(7,\)"),
        ({"weight": (7,)}, r"must be matrices, got shapes \[\(7,\)"),
        ({"weight": (6, 7, 1)}, r"must be matrices, got shapes \[\(6, 7, 1\)"),
        ({"bias": (1,)}, r"`bias` must be of shape \(6,\), got \(1,\)"),
        ({"bias": (6, 1)}, r"`bias` must be of shape \(6,\), got \(6, 1\)"),
    ],
)
def test_shapes_that_do_not_fit_are_told(changed: dict[str, Any], says: str) -> None:
    p = _parts() | {name: torch.ones(shape).double() for name, shape in changed.items()}
    with pytest.raises(ValueError, match=f"^lora_linear: .*{says}"):
        lora_linear(*p.values(), 1.0)


def test_tensors_on_two_devices_are_refused() -> None:
    p = _parts()
    p["a"] = p["a"].to("meta")
    with pytest.raises(
        ValueError, match=r"`A` must .* device of `weight`, .* on cpu, .*got .* on meta"
    ):
        lora_linear(*p.values(), 1.0)


def test_a_bias_of_another_dtype_or_device_is_refused() -> None:
    p = _parts()
    bias = p["bias"]
    for p["bias"], came in ((bias.float(), "torch.float32 on cpu"), (bias.to("meta"), "on meta")):
        with pytest.raises(ValueError, match=f"^lora_linear: `bias` must have .*{came}"):
            lora_linear(*p.values(), 1.0)


def test_the_forms_for_several_layers_or_adapters_check_the_bias_too() -> None:
    x, weight, _, a, b = _parts().values()
    bias = torch.ones(1).double()
    with pytest.raises(ValueError, match=r"^lora_linear_grouped, layer 0: `bias` .* \(1,\)"):
        lora_linear_grouped(x, [weight], [bias], [(a, b)], [1.0])
    ids = torch.zeros(len(x), dtype=torch.long)
    with pytest.raises(ValueError, match=r"^lora_linear_mixed, adapter 0: `bias` .* \(1,\)"):
        lora_linear_mixed(x, weight, bias, [Adapter(a, b, 1.0)], ids)


def test_whole_numbers_are_refused() -> None:
    p = {name: value.long() for name, value in _parts().items()}
    with pytest.raises(ValueError, match=r"floating point, got torch\.int64"):
        lora_linear(*p.values(), 1.0)
