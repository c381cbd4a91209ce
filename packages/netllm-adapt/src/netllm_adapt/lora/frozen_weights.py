"""Products with weights that may be frozen, each in the fastest way that is allowed.

torch lays a bfloat16 weight out anew at every product, and leaves float32 to another library, which
takes twice the time on some processors. Here a frozen parameter on the CPU is copied once into
oneDNN's layout for each pass, or into int8, and the copy is held as long as the parameter lives and
stays as it is. A long pass, whose activations need the memory, holds no layout. No layout changes
a result: float32 weights are laid out again where none is held, and for bfloat16 ones torch
computes the same (bit by bit where it was tried, on AVX512).

In int8, for training on processors that multiply such fast, both factors are rounded: each row of
what passes, and each output of the weight (for gradients, each input), to 255 steps of its own
size; sums are exact, results come in the dtype of what passes. The low-rank matrices, their
gradients and everything between the products stay as they are.

Source: SwitchBack (Wortsman et al., NeurIPS 2023), which also takes int8 for the outputs and the
gradients of inputs, and not for those of weights: here weights have none. Scales by rows and
columns, as in LLM.int8 (Dettmers et al., NeurIPS 2022), section 2.1.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

_STEPS = 127
_in_int8_now: ContextVar[bool] = ContextVar("netllm_int8_products", default=False)
_MOST_ROWS = 2048
"""Rows of the longest pass that holds the layouts it made."""
_MOST_BYTES = 2**31
"""Layouts take at most so much memory."""


class Rounded(NamedTuple):
    """A matrix in 8 bits: ``numbers·scale``."""

    numbers: Int8[Tensor, "row width"]
    scale: Float[Tensor, "row 1"]


class _Copies(NamedTuple):
    """What was made of a weight, and of its transposed (True)."""

    state: tuple[int, int, int]
    """Of the weight then."""
    storage: StorageWeakRef
    """Where it lay: as long as this is referred to, no other storage has its address."""
    layouts: dict[bool, Tensor]
    int8: dict[bool, Rounded]


_copies: Any = WeakTensorKeyDictionary()


def forget(weight: Tensor) -> None:
    """Drop the copies of a frozen weight on the CPU: its layouts and those in int8.

    Call it after a change in place that torch does not count, such as ``weight.data.mul_(2)``.
    Other changes, and new data (``weight.data = …``, ``module.to(…)``), are seen without.
    """
    _copies.pop(weight, None)


def _copies_of(weight: Tensor) -> _Copies:
    """The weight's copies, none of them of an older state."""
    version = 0 if weight.is_inference() else weight._version
    storage = weight.untyped_storage()
    state = storage._cdata, weight.data_ptr(), version
    copies: _Copies | None = _copies.get(weight)
    if copies is None or copies.state != state:
        copies = _copies[weight] = _Copies(state, StorageWeakRef(storage), {}, {})
    return copies


def linears(
    x: Float[Tensor, "row inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    biases: Sequence[Tensor | None],
    *,
    adapted: Collection[int],
) -> list[Float[Tensor, "row _"]]:
    """``x·Wᵀ + bias`` by each of some layers; without autograd.

    Args:
        x: what passes; for int8 it is rounded once for all layers.
        weights: of the layers.
        biases: of the layers.
        adapted: numbers of those with low-rank matrices. In bfloat16 a layout gains little, for the
            weight's memory again: too much for all layers of a model.
    """
    in_int8 = _in_int8(x)
    layers = enumerate(zip(weights, biases, strict=True))
    return [
        _product(x, in_int8, weight, bias, adapted=i in adapted) for i, (weight, bias) in layers
    ]


def transposed_linear(
    dy: Float[Tensor, "row outputs"],
    weight: Float[Tensor, "outputs inputs"],
    plus: Float[Tensor, "row inputs"] | None = None,
    *,
    adapted: bool = True,
) -> Float[Tensor, "row inputs"]:
    """``dY·W``, and `plus` if there is one; without autograd. See `linears`."""
    return _product(dy, _in_int8(dy), weight, plus, adapted=adapted, transposed=True)


def _in_int8(x: Tensor) -> Rounded | None:
    """``x`` rounded, inside of `int8_products` on the CPU."""
    return rounded(x) if _in_int8_now.get() and x.device.type == "cpu" else None


def _product(
    x: Tensor,
    in_int8: Rounded | None,
    weight: Tensor,
    plus: Tensor | None,
    *,
    adapted: bool,
    transposed: bool = False,
) -> Tensor:
    """``x·Wᵀ``, or ``x·W`` if transposed, to which a bias, or for ``x·W`` a matrix, is added."""
    if isinstance(weight, nn.Parameter) and not weight.requires_grad and x.dtype == weight.dtype:
        if in_int8 is not None:
            return int8_linear(in_int8, _int8_of(weight, transposed), plus, x.dtype)
        layout = _layout_for(x, weight, adapted=adapted, transposed=transposed)
        if layout is not None:
            return onednn_linear(x, layout, *((None, plus) if transposed else (plus, None)))
    if not transposed:
        return F.linear(x, weight, plus)
    return x @ weight if plus is None else torch.addmm(plus, x, weight)


def _int8_of(weight: Tensor, transposed: bool) -> Rounded:
    copies = _copies_of(weight).int8
    if transposed not in copies:
        whole = weight.detach()
        copies[transposed] = rounded(whole.t().contiguous() if transposed else whole)
    return copies[transposed]


def _layout_for(x: Tensor, weight: Tensor, *, adapted: bool, transposed: bool) -> Tensor | None:
    """How a product of ``x`` is to read a frozen weight, or its transposed; None if as it is."""
    wide, short = weight.dtype == torch.float32, x.shape[0] <= _MOST_ROWS
    if weight.device.type != "cpu" or not _is_laid_out(weight, adapted=adapted, short=short):
        return None
    layouts = _copies_of(weight).layouts
    if (layout := layouts.get(transposed)) is not None:
        return layout
    hold = short and _layout_bytes() + weight.nbytes <= _MOST_BYTES
    if not (hold or wide):
        return None
    layout = onednn_weight(weight.t().contiguous() if transposed else weight)
    if hold:
        layouts[transposed] = layout
    return layout


def _is_laid_out(weight: Tensor, *, adapted: bool, short: bool) -> bool:
    """Whether the products of a pass, which may be short, read a weight in oneDNN's layout."""
    return has_onednn(weight.dtype) and (weight.dtype == torch.float32 or (adapted and short))


def bytes_of_copies(
    weights: Iterable[tuple[Tensor, bool]], *, rows: int, in_int8: bool = False
) -> int:
    """What passes of so many rows will hold of frozen weights on the CPU, forward and backward.

    Args:
        weights: each, and whether it has low-rank matrices; they may lie on the meta device.
        rows: of the longest pass.
        in_int8: whether products are in int8.
    """
    held, passing, short = 0, 0, rows <= _MOST_ROWS
    for weight, adapted in weights:
        if in_int8:
            held += 2 * weight.numel()
        elif _is_laid_out(weight, adapted=adapted, short=short):
            if short and held + 2 * weight.nbytes <= _MOST_BYTES:
                held += 2 * weight.nbytes
            elif weight.dtype == torch.float32:
                passing = max(passing, weight.nbytes)
    return held + passing


def _layout_bytes() -> int:
    return sum(weight.nbytes * len(copies.layouts) for weight, copies in _copies.items())


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether this machine's torch can lay weights of this dtype out for oneDNN."""
    ops: Any = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(ops, "_reorder_linear_weight")):
        return False
    if dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def onednn_weight(weight: Float[Tensor, "outputs inputs"]) -> Tensor:
    """A copy of the weight as oneDNN reads it, opaque to most of torch."""
    layout: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return layout


def onednn_linear(
    x: Tensor,
    layout: Tensor,
    bias: Tensor | None,
    other: Tensor | None = None,
    then: str = "add",
) -> Tensor:
    """``x·Wᵀ + bias``; with `other`, joined to it by `then`, "add" or "mul", with one rounding."""
    if bias is not None:
        bias = bias.contiguous()  # oneDNN reads it so, whatever its strides
    product: Any = torch.ops.mkldnn._linear_pointwise
    y: Tensor
    if other is None:
        y = product(x, layout, bias, "none", [], "")
    else:
        y = product.binary(x, other, layout, bias, then)
    return y


@contextmanager
def int8_products() -> Iterator[None]:
    """Compute products with frozen weights in int8 in this context, both passes.

    Two rounded copies of each weight, a byte per number, are held as long as the weight lives.

    Raises:
        ValueError: If this processor has no fast ones.
    """
    check_int8()
    token = _in_int8_now.set(True)
    try:
        yield
    finally:
        _in_int8_now.reset(token)


def has_int8() -> bool:
    """Whether this processor has instructions for products in int8, and torch uses them."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


def check_int8(device: str = "cpu") -> None:
    """Raise unless a device has instructions for products in int8.

    Raises:
        ValueError: If not.
    """
    if device != "cpu":
        raise ValueError(f"Products in int8 are for CPUs, got {device!r}. Leave them out.")
    if not has_int8():
        raise ValueError(
            "Products in int8 need a processor with AVX512-VNNI and torch with oneDNN; this one "
            f"has {torch.backends.cpu.get_cpu_capability()} alone. Leave them out."
        )


def rounded(x: Float[Tensor, "row width"]) -> Rounded:
    """Each row in steps of its largest number's 127th."""
    wide = x.to(torch.float32, copy=True)
    # In half the time of absolute values, which take memory of their own.
    scale = torch.maximum(wide.amax(1, keepdim=True), wide.amin(1, keepdim=True).neg_())
    scale = scale.div_(_STEPS).clamp_(min=torch.finfo(torch.float32).tiny)
    return Rounded(wide.mul_(1 / scale).round_().to(torch.int8), scale)


def int8_linear(
    x: Rounded, weight: Rounded, plus: Tensor | None, dtype: torch.dtype
) -> Float[Tensor, "row outputs"]:
    """``x·Wᵀ``, and `plus` if there is one."""
    y = torch._int_mm(x.numbers, weight.numbers.t()).float()
    y.mul_(x.scale).mul_(weight.scale[:, 0])
    return (y if plus is None else y.add_(plus)).to(dtype)
