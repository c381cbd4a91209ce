"""What the training runs of all rivals share: recipes by field, threads, the best weights kept."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from netllm_sims.setting_values import unknown

from netllm_baselines._weights_files import named_errors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Recipe = TypeVar("Recipe", bound=DataclassInstance)


class Saved(Protocol):
    """Weights that can be written to a file."""

    def save(self, path: Path) -> None:
        """Write them."""


def keep_best(
    updates: Iterable[tuple[Mapping[str, float], Saved | None]], out: Path | str, *, lines: int = 0
) -> Path:
    """Write the weights that come, the latest over earlier ones, to `out`; return that path.

    Args:
        updates: What to log of each update, and its weights if they are the best so far.
        out: The file of the weights; the log, one JSON object per update, is written beside it.
        lines: How many lines of an earlier log are kept, for a training that goes on.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_suffix(".jsonl")
    earlier = path.read_text("utf-8").splitlines(keepends=True)[:lines] if lines else []
    with named_errors(path), path.open("w", encoding="utf-8") as log:
        log.writelines(earlier)
        for line, weights in updates:
            if weights is not None:
                weights.save(out)
            log.write(json.dumps(line) + "\n")
            log.flush()
    return out


def override(recipe: "Recipe", values: Mapping[str, int | float | str | bool]) -> "Recipe":
    """The recipe with single fields replaced.

    Raises:
        ValueError: There is no such field, or the value has another type.
    """
    known = {field.name: type(field.default) for field in fields(recipe)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(unknown("field of the recipe", name, list(known)))
        if type(value) is not known[name] and (known[name], type(value)) != (float, int):
            raise ValueError(f"`{name}` must be a {known[name].__name__}, got {value!r}.")
    return replace(recipe, **values)


def check_recipe(
    recipe: Any,
    *,
    counts: Sequence[str],
    positive: Sequence[str],
    not_negative: Sequence[str],
    shares: Sequence[str] = (),
    shares_below_1: Sequence[str] = (),
) -> None:
    """Raise ValueError unless training can use the numbers of a recipe.

    Args:
        recipe: The recipe.
        counts: Its fields that must be at least 1.
        positive: That must be > 0.
        not_negative: That must be >= 0.
        shares: That must lie in [0, 1].
        shares_below_1: That must lie in [0, 1).
    """
    rules: tuple[tuple[Sequence[str], str, Callable[[float], bool]], ...] = (
        (counts, "be at least 1", lambda value: value >= 1),
        (positive, "be positive", lambda value: value > 0),
        (not_negative, "not be negative", lambda value: value >= 0),
        (shares, "lie in [0, 1]", lambda value: 0 <= value <= 1),
        (shares_below_1, "lie in [0, 1)", lambda value: 0 <= value < 1),
    )
    for names, rule, holds in rules:
        for name in names:
            if not holds(getattr(recipe, name)):
                raise ValueError(f"`{name}` must {rule}, got {getattr(recipe, name)}.")


def whole_fields(recipe: "DataclassInstance") -> list[str]:
    """Names of the fields that hold whole numbers."""
    return [field.name for field in fields(recipe) if type(field.default) is int]


@contextmanager
def few_threads(threads: int) -> Iterator[None]:
    """Few threads, and bfloat16 products where the processor has them (twice as fast there)."""
    import torch

    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
