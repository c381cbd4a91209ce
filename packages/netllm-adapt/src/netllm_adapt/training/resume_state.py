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


class Node(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
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
    tree = json.dumps(_encoded(dict(state), tensors), allow_nan=False)
    save_file(tensors, path, metadata={_TREE: tree, _DIGEST: _digest(tree, tensors)})


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
        state = _decoded(decode_json(tree, Any, name=str(path)), tensors)
        if not isinstance(state, dict):
            raise TypeError(f"it holds {tree[:40]!r}")
    except (KeyError, RecursionError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(
            f"{path}: must hold the state of a run, but {error!r}. {_AGAIN}"
        ) from error
    return state


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value ready for JSON; its tensors go to `tensors`."""
    if isinstance(value, Tensor):
        name = f"tensor-{len(tensors)}"
        tensors[name] = value.detach().contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise TypeError(f"A state's keys must be text or whole numbers, got {key!r}.")
        return {"items": [[key, _encoded(one, tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return {"listed": [_encoded(one, tensors) for one in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"A state must be of numbers, text and tensors, got a {type(value).__name__}.")


def _decoded(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    known = msgspec.convert(node, Node)
    if known.items is not None:
        return {key: _decoded(value, tensors) for key, value in known.items}
    if known.listed is not None:
        return [_decoded(value, tensors) for value in known.listed]
    return tensors[str(known.tensor)]


def _digest(tree: str, tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256(tree.encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        if tensor.numel():
            content.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
