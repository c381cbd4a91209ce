"""The compiler of the planners; imported only when one of them first acts."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba  # type: ignore[import-untyped]

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """The function, compiled by numba and cached on disk."""
    return cast(F, numba.njit(cache=True, error_model="numpy")(function))
