"""Where the published ABR sessions start in their traces: lists that `netllm data fetch` makes.

One is the public repository's pickle, converted. The others are no files there: its environment
draws them anew from a fixed seed whenever a folder of traces has no pickle.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

SEED = 998244353
"""Seed of the drawn lists (NetLLM's `baseline_special/env.py`)."""
LARGEST_PICKLE = 65_536
"""Bytes; 100 numbers take less than 10,000."""
CONVERTED = (
    "start pointer (1-based index into cooked_bw; env starts at cooked_time[ptr-1]) per trace, in "
    "sorted file-name order; converted from mahimahi_ptrs.pkl"
)
DRAWN = (
    "NOT a file of the reference: start pointers Environment generates itself for fixed=True with "
    "np.random.seed(998244353); randint(1,len) per trace in sorted file-name order, all traces"
)


def drawn(folder: Path, names: Sequence[str]) -> bytes:
    """The list that is drawn: for each trace in order of name one of its points, but the last.

    Args:
        folder: of the traces.
        names: theirs, all that the published folder has.
    """
    import numpy as np
    from netllm_sims.abr import load_trace

    random = np.random.RandomState(SEED)
    ordered = sorted(names)
    pointers = [int(random.randint(1, len(load_trace(folder / name).time_s))) for name in ordered]
    return _listed(pointers, ordered, DRAWN)


def converted(pickled: bytes, names: Sequence[str]) -> bytes:
    """The list that a pickle holds, which is read without running anything of it.

    Args:
        pickled: a list of whole numbers.
        names: of the traces that it is about.

    Raises:
        ValueError: if it holds anything else.
    """
    return _listed(numbers(pickled), sorted(names), CONVERTED)


def numbers(pickled: bytes) -> list[int]:
    """The whole numbers of a pickled list or tuple; nothing but these is ever built.

    The only names that it may refer to are those of NumPy's whole numbers, for which plain classes
    of this module stand in; no other is looked up, so no code can be called.

    Raises:
        ValueError: if it holds anything else.
    """
    must = "A pickle of start pointers must"
    if len(pickled) > LARGEST_PICKLE:
        raise ValueError(f"{must} be small, got {len(pickled)} bytes.")
    try:
        found = _Numbers(io.BytesIO(pickled), encoding="latin1").load()
    except Exception as error:  # damaged pickles raise errors of any kind
        raise ValueError(f"{must} hold whole numbers only: {error}.") from error
    if isinstance(found, _Array):
        found = found.values
    if not isinstance(found, list | tuple):
        raise ValueError(f"{must} hold a list, got a {type(found).__name__}.")
    whole = [one.value if isinstance(one, _Scalar) else one for one in found]
    for one in whole:
        if type(one) is not int:
            raise ValueError(f"{must} hold whole numbers only, got {one!r:.40}.")
    return whole


def _listed(pointers: Sequence[int], names: Sequence[str], description: str) -> bytes:
    document = {"description": description, "ptrs": pointers, "files": names}
    return json.dumps(document, indent=0).encode()


class _Kind:
    """Stands in for `numpy.dtype`: the width, sign and order of whole numbers."""

    def __init__(self, code: str, *_: object) -> None:
        self.signed = code[0] == "i"
        self.width = int(code[1:])
        self.order: Literal["little", "big"] = "little"

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.order = "big" if state[1] == ">" else "little"

    def read(self, raw: bytes | str) -> list[int]:
        data = _bytes(raw)
        if len(data) % self.width:
            raise ValueError(f"{len(data)} bytes of numbers of {self.width} bytes")
        pieces = (data[at : at + self.width] for at in range(0, len(data), self.width))
        return [int.from_bytes(one, self.order, signed=self.signed) for one in pieces]


class _Scalar:
    """Stands in for `numpy.core.multiarray.scalar`."""

    def __init__(self, kind: _Kind, raw: bytes | str) -> None:
        (self.value,) = kind.read(raw)


class _Array:
    """Stands in for `numpy.ndarray` and what makes one."""

    def __init__(self, *_: object) -> None:
        self.values: list[int] = []

    def __setstate__(self, state: tuple[int, tuple[int], _Kind, bool, bytes | str]) -> None:
        self.values = state[2].read(state[4])


def _bytes(text: bytes | str, *_: object) -> bytes:
    """Stands in for `_codecs.encode`, by which old protocols write bytes as Latin-1."""
    return text if isinstance(text, bytes) else text.encode("latin1")


_NAMES: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _bytes,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("scalar", _Scalar), ("_reconstruct", _Array))
    },
}


class _Numbers(pickle.Unpickler):
    """Refuses every name but those of NumPy's whole numbers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError(f"it refers to something outside, {pid!r:.40}")
