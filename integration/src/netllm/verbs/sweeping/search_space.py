"""Which fields of a recipe are searched, and within what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from netllm.unknown_names import unknown

if TYPE_CHECKING:
    from netllm_adapt import Recipe
    from optuna import Trial


class Span(msgspec.Struct, forbid_unknown_fields=True):
    """Numbers from `low` to `high`, both included; evenly by their logarithm with `log`."""

    low: int | float
    high: int | float
    log: bool = False


@dataclass(frozen=True)
class SearchSpace:
    """By field of the recipe a span of numbers, or the values to choose from."""

    fields: Mapping[str, Span | Sequence[Any]]

    @classmethod
    def read(cls, search: Mapping[str, Any], recipe: Recipe) -> SearchSpace:
        """The space that a mapping says, for a recipe whose fields it names.

        Raises:
            ValueError: for no field, one that the recipe lacks, or a range that holds nothing.
        """
        if not search:
            raise ValueError("`search` must name at least one field of the recipe, got none.")
        return cls({name: _field(name, told, recipe) for name, told in search.items()})

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """The values that a trial takes."""
        return {name: _suggest(trial, name, told) for name, told in self.fields.items()}


def _field(name: str, told: Any, recipe: Recipe) -> Span | Sequence[Any]:
    if not hasattr(recipe, name):
        raise unknown("field of the recipe", name, vars(recipe))
    if isinstance(told, Sequence) and not isinstance(told, str):
        if not told:
            raise ValueError(f"`search`: {name} must list at least one value, got none.")
        return told
    try:
        span = msgspec.convert(told, Span)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"`search`: {name} must be a list of values, or have `low`, `high` and perhaps `log`, "
            f"got {told!r}."
        ) from error
    if not span.low < span.high or (span.log and span.low <= 0):
        least = "0 < low < high" if span.log else "low < high"
        raise ValueError(f"`search`: {name} must have {least}, got {span.low} and {span.high}.")
    return span


def _suggest(trial: Trial, name: str, told: Span | Sequence[Any]) -> Any:
    if not isinstance(told, Span):
        return told[trial.suggest_categorical(name, range(len(told)))]
    if isinstance(told.low, int) and isinstance(told.high, int):
        return trial.suggest_int(name, told.low, told.high, log=told.log)
    return trial.suggest_float(name, told.low, told.high, log=told.log)
