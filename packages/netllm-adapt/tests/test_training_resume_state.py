"""States come back bit for bit, and no bit of the file changes unnoticed."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_adapt.training.resume_state import read_state, write_state
from safetensors.torch import save_file

STATE: dict[str, Any] = {
    "step": 3,
    "trained": {"a": torch.arange(6.0).view(2, 3), "b": torch.ones((), dtype=torch.bfloat16)},
    "optimizer": {
        "state": {0: {"step": torch.tensor(3.0)}},
        "param_groups": [{"lr": 0.1 + 0.2, "betas": [0.9, 0.999], "fused": True}],
    },
    "best": None,
    "empty": torch.zeros(0, 4),
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    write_state(tmp_path / "state", STATE)
    assert same(read_state(tmp_path / "state"), STATE)


def test_no_flipped_bit_passes(tmp_path: Path) -> None:
    file = tmp_path / "state"
    write_state(file, STATE)
    whole = file.read_bytes()
    for bit in np.random.default_rng(0).permutation(8 * len(whole))[:1_000]:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"state: "):
            read_state(file)


@given(st.binary(max_size=300))
def test_other_content_is_named(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"state: must hold the state of a run"):
            read_state(file)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "state"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(marker), "w")

    for zipped in (True, False):
        torch.save({"step": Payload()}, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match="must hold the state of a run"):
            read_state(file)
    file.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match="must hold the state of a run"):
        read_state(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload()))
    with pytest.raises(ValueError, match="must hold the state of a run"):
        read_state(file)
    assert not marker.exists()


@pytest.mark.parametrize(
    "tree",
    [
        b"",
        b"\x90",
        b"\x81\xa1a\xc1",
        b"\x81\x90\x01",
        b"\x81\xa1a" * 100_000,
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"a": msgspec.msgpack.Ext(1, b"gone")}),
        msgspec.msgpack.encode({"a": msgspec.msgpack.Ext(1, b"\xff")}),
        msgspec.msgpack.encode({5: 1}),
    ],
)
def test_a_tree_of_another_form_is_named(tmp_path: Path, tree: bytes) -> None:
    file = tmp_path / "state"
    tensors = {"state": torch.tensor([*tree], dtype=torch.uint8)}
    content = hashlib.sha256(f"state torch.uint8 [{len(tree)}]".encode() + tree)
    save_file(tensors, file, metadata={"sha256": content.hexdigest()})
    with pytest.raises(ValueError, match=r"state: must hold the state of a run, but .*--out"):
        read_state(file)


def test_what_is_neither_number_nor_text_nor_tensor_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="of numbers, text and tensors, got a object"):
        write_state(tmp_path / "state", {"a": object()})
