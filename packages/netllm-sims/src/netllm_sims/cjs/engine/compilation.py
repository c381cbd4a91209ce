"""Compilation with a cache that knows of changes in any of the compiled modules."""

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

_HERE = Path(__file__).parent


def _digest() -> str:
    """Digest of all modules with compiled functions, or with constants built into these."""
    files = [*sorted(_HERE.glob("*.py")), _HERE.parent / "dag.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


_STAMP = _digest()


def _beside(function: Callable[..., object]) -> str:
    file = Path(inspect.getfile(function))
    return "" if file.parent == _HERE else _neighbours(file.parent)


@functools.cache
def _neighbours(folder: Path) -> str:
    """Digest of a package's modules with compiled functions; its functions may use each other."""
    texts = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(text for text in texts if b"cjs.compiled" in text)).hexdigest()


def compiled(function: F) -> F:
    """The function compiled at its first use, and from the cache in later processes.

    numba notices a change of the function's own file only, though it builds the functions and
    constants of others into the code: so the cache is stamped with all of them, and with the
    compiled ones beside it.
    """
    return _compile(function, {})


def inner(function: F) -> F:
    """The same for a function that only compiled ones call: it has no entry from Python.

    The entry unpacks some 35 arrays, and takes longer to compile than most of the functions. One
    that takes a state is inlined wherever it is called: passing the arrays took half of the time.
    """
    alone = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    heavy = "state" in inspect.signature(function).parameters
    return _compile(function, {**alone, "forceinline": heavy})


def _compile(function: F, options: dict[str, bool]) -> F:
    # Without NRT numba counts no references to arrays, which took two thirds of the time; such
    # functions cannot allocate.
    jit: Any = functools.partial(numba.njit, error_model="numpy", _nrt=False, **options)
    try:
        dispatcher = jit(cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write its cache to
        return cast(F, jit(function))
    with contextlib.suppress(AttributeError):
        file = dispatcher._cache._cache_file
        file._source_stamp = (*file._source_stamp, _STAMP, _beside(function))
    return cast(F, dispatcher)
