"""What is made of frozen weights once and read by every pass, such as another layout."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")


class _State(NamedTuple):
    """Where a weight lies and how often it changed."""

    memory: int
    """Its storage's address; none other has it while there is a weak reference to that one."""
    place: int
    version: int

    @classmethod
    def of(cls, weight: Tensor) -> _State:
        version = 0 if weight.is_inference() else weight._version
        return cls(weight.untyped_storage()._cdata, weight.data_ptr(), version)


class Kept(Generic[T]):
    """Of parameters, each as long as it lives and stays as it is."""

    def __init__(self) -> None:
        self._found: Any = WeakTensorKeyDictionary()
        _all.append(self)

    def get(self, weight: Tensor) -> T | None:
        """What is kept of a weight, unless that changed."""
        found = self._found.get(weight)
        if found is None:
            return None
        state, value, _ = found
        if state == _State.of(weight):
            kept: T = value
            return kept
        self.forget(weight)
        return None

    def keep(self, weight: Tensor, value: T) -> T:
        """The value, kept."""
        # A new storage may lie where the old one lay, as after `.bfloat16().float()`.
        self._found[weight] = _State.of(weight), value, StorageWeakRef(weight.untyped_storage())
        return value

    def forget(self, weight: Tensor) -> None:
        """Drop what is kept of a weight."""
        self._found.pop(weight, None)

    @property
    def nbytes(self) -> int:
        """Of the weights of which something is kept."""
        return sum(weight.nbytes for weight in self._found)

    def __contains__(self, weight: Tensor) -> bool:
        return weight in self._found


_all: list[Kept[Any]] = []


def forget(weight: Tensor) -> None:
    """Drop what is kept of a frozen weight on the CPU: its layouts and its copy in int8.

    Call it after a change in place that torch does not count, such as ``weight.data.mul_(2)``.
    Other changes, and new data (``weight.data = …``, ``module.to(…)``), are seen without.
    """
    for kept in _all:
        kept.forget(weight)


def is_frozen(weight: Tensor) -> bool:
    """Whether something can be kept of a weight: a parameter on the CPU that does not learn."""
    return (
        isinstance(weight, nn.Parameter)
        and not weight.requires_grad
        and weight.device.type == "cpu"
    )
