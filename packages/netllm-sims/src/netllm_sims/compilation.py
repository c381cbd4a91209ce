"""How simulators and rivals are compiled."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """The function, compiled at its first call and kept on disk where numba may write.

    numba notices a change of its own file alone, not of functions elsewhere that it calls.
    """
    try:
        return cast(F, numba.njit(cache=True, error_model="numpy")(function))
    except RuntimeError:  # numba found no folder that it may write its cache to
        return cast(F, numba.njit(error_model="numpy")(function))
