"""Which changes of a recipe make a run fit that takes too much memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from netllm_adapt.planning.memory import Plan
from netllm_adapt.training.recipe import Recipe

_SESSIONS = 8
"""Of a validation where memory is short."""
Change = Mapping[str, Any]
"""Fields of a recipe with new values, and `validation`, the episodes decided side by side."""


def remedies(
    plan: Callable[..., Plan], recipe: Recipe, *, sessions: int, frozen: bool
) -> list[tuple[Change, Plan]]:
    """Changes that make a run fit, each with what it then takes; none if nothing does.

    Of a change that comes in sizes the smallest one that is enough. What fits only together comes
    as one change. Fewer blocks come last: they make another model.

    Args:
        plan: of a recipe, and of so many `sessions` that it is validated on side by side.
        recipe: what does not fit.
        sessions: of its validation; fewer of them are a change named `validation`.
        frozen: whether the backbone is: else it can be neither cut nor quantised.
    """
    again = [{"gradient_checkpointing": True}]
    fewer_rows = [{"micro_batch": count} for count in _halves(recipe.micro_batch)]
    fewer_bits = [{"quantise": kind, "products": None} for kind in ("int8", "nf4") if frozen]
    whole = plan(recipe, sessions=sessions)
    blocks = whole.blocks if frozen else 1
    fewer_sessions = [
        {"validation": n} for n in _halves(sessions if whole.bytes_per_session else 1)
    ]
    fewer_blocks = [{"layers": count} for count in _halves(blocks)]

    def made(change: Change) -> Plan:
        fields = {name: value for name, value in change.items() if name != "validation"}
        return plan(replace(recipe, **fields), sessions=change.get("validation", sessions))

    def first_fitting(sizes: list[dict[str, Any]], also: Change) -> list[tuple[Change, Plan]]:
        changes = ({**also, **one} for one in sizes)
        plans = ((change, made(change)) for change in changes)
        return next(([pair] for pair in plans if pair[1].fits), [])

    same_model = [
        pair
        for sizes in (again, fewer_rows, fewer_sessions, fewer_bits)
        for pair in first_fitting(sizes, {})
    ]
    least: dict[str, Any] = {**again[0], "micro_batch": 1}
    if fewer_sessions:
        least["validation"] = min(sessions, _SESSIONS)
    same_model = same_model or first_fitting([{}, *fewer_bits], least)
    if smaller := first_fitting(fewer_blocks, {}):
        return same_model + smaller
    return same_model or first_fitting(fewer_blocks, {**least, **dict(*fewer_bits[-1:])})


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count
