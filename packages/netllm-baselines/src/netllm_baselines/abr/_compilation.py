"""The compiler of the planners; imported only when one of them first acts."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """The function, compiled by numba, on disk where numba finds a folder that it may write to."""
    try:
        return cast(F, numba.njit(cache=True, error_model="numpy")(function))
    except RuntimeError:
        return cast(F, numba.njit(error_model="numpy")(function))
