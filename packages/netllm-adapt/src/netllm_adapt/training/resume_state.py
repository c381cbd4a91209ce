"""What a run is resumed from: one safetensors file that carries its own digest, and no pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_TREE, _DIGEST = "state", "sha256"
"""The tensor that holds all but the tensors, as MessagePack; the name of the digest."""
_TENSOR = 1
"""MessagePack's extension that stands for a tensor, by its name in the file."""


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state: dictionaries with text or whole numbers as keys, lists, numbers and tensors.

    Raises:
        TypeError: if it holds something else.
    """
    tensors: dict[str, Tensor] = {}

    def named(value: Any) -> msgspec.msgpack.Ext:
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise TypeError(f"A state must be of numbers, text and tensors, got a {kind}.")
        name = f"tensor-{len(tensors)}"
        tensors[name] = value.detach().contiguous()
        return msgspec.msgpack.Ext(_TENSOR, name.encode())

    tree = bytearray(msgspec.msgpack.encode(state, enc_hook=named))
    tensors[_TREE] = torch.frombuffer(tree, dtype=torch.uint8)
    save_file(tensors, path, metadata={_DIGEST: _digest(tensors)})


def read_state(path: Path) -> dict[str, Any]:
    """The state that `write_state` wrote.

    Raises:
        ValueError: naming the file, if it is cut off, damaged by a single bit, or another one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.get(_DIGEST) != _digest(tensors):
            raise ValueError("its content has not the sha256 that it was written with")
        state: dict[str, Any] = msgspec.msgpack.decode(
            tensors[_TREE].numpy().tobytes(),
            type=dict[str, Any],
            ext_hook=lambda _, name: tensors[bytes(name).decode()],
        )
    except (
        *(SafetensorError, OSError, msgspec.MsgspecError),
        *(KeyError, RecursionError, TypeError, ValueError),
    ) as error:
        raise ValueError(
            f"{path}: must hold the state of a run, but {error}; it was damaged, or written by "
            "another version. Begin another run: choose another `--out`."
        ) from error
    return state


def _digest(tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        if tensor.numel():
            content.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
