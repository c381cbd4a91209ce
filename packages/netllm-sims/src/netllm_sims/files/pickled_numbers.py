"""Pickled numbers and arrays, read without running any code that a file may hold."""

import pickle
from typing import Any, BinaryIO

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}
"""All that pickled arrays of numbers, or of dictionaries of numbers, need."""


def load(stream: BinaryIO) -> Any:
    """What a pickle holds: numbers and text, lists and dictionaries of them, arrays of NumPy.

    Raises:
        Exception: of any kind if it is damaged; `pickle.UnpicklingError` if it asks for anything
            else, which is not looked up.
    """
    return _Reader(stream, encoding="latin1").load()


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how old protocols write bytes
            return _bytes
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for `{module}.{name}`")
        return super().find_class(module, name)


def _bytes(text: str, *_: object) -> bytes:
    return text.encode("latin1")
