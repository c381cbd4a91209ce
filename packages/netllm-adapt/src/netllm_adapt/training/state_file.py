"""What a run is resumed from: one safetensors file that carries its own digest, and no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from netllm_adapt.files.reading import decode_json

_TREE, _DIGEST = "state", "sha256"
_AGAIN = "Begin another run: choose another `--out`."


class Branch(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A node of the tree of a state; one of its fields is given."""

    items: list[tuple[str | int, Any]] | None = None
    """Keys and values of a dictionary."""
    listed: list[Any] | None = None
    tensor: str | None = None
    """The name of a tensor in the file."""


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state: dictionaries with text or whole numbers as keys, lists, numbers and tensors.

    Raises:
        TypeError: if it holds something else.
        ValueError: if it holds a number that is not finite.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_planted(dict(state), tensors), allow_nan=False)
    about = {_TREE: tree, _DIGEST: _digest(tree, tensors)}
    save_file(tensors, path, metadata=about)


def read_state(path: Path) -> dict[str, Any]:
    """The state that `write_state` wrote.

    Raises:
        ValueError: naming the file, if it is cut off, damaged by a single bit, or another one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: must hold the state of a run, but {error}. {_AGAIN}") from error
    tree = about.get(_TREE, "")
    if about.get(_DIGEST) != _digest(tree, tensors):
        raise ValueError(
            f"{path}: its content must have the sha256 that it was written with; it was damaged "
            f"since, or is another file. {_AGAIN}"
        )
    try:
        state = _grown(decode_json(tree, Any, name=str(path)), tensors)
    except (KeyError, RecursionError, msgspec.ValidationError) as error:
        raise ValueError(
            f"{path}: must hold the state of a run, but {error!r}. {_AGAIN}"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: must hold the state of a run, got {tree[:40]!r}. {_AGAIN}")
    return state


def _planted(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value ready for JSON; its tensors go to `tensors`."""
    if isinstance(value, Tensor):
        name = f"tensor-{len(tensors)}"
        tensors[name] = value.detach().contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[_key(key), _planted(one, tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return {"listed": [_planted(one, tensors) for one in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"A state must be of numbers, text and tensors, got a {type(value).__name__}.")


def _key(key: Any) -> str | int:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return key
    raise TypeError(f"A state's keys must be text or whole numbers, got {key!r}.")


def _grown(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    branch = msgspec.convert(node, Branch)
    if branch.items is not None:
        return {key: _grown(value, tensors) for key, value in branch.items}
    if branch.listed is not None:
        return [_grown(value, tensors) for value in branch.listed]
    return tensors[str(branch.tensor)]


def _digest(tree: str, tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256(tree.encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        if tensor.numel():
            content.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
