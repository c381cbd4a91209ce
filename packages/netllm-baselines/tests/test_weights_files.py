"""What training writes appears whole, and errors name the file."""

import numpy as np
import pytest
from netllm_baselines import _weights_files
from netllm_baselines._recipes_and_best_weights import keep_best
from netllm_baselines.facts import facts


def test_a_file_of_weights_tells_its_facts_and_another_file_is_refused(tmp_path):
    path = tmp_path / "any.npz"
    arrays = {"matrix": np.zeros((2, 2))}
    _weights_files.write_npz(path, _weights_files.with_meta(arrays, {"kind": "student"}))
    assert facts(path) == {"kind": "student"}
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"any\.npz: must hold weights"):
        facts(path)


def test_weights_that_do_not_fit_leave_the_old_ones_and_are_named(tmp_path, room):
    path = tmp_path / "ppo.npz"
    _weights_files.write(path, b"old")
    with room(99), pytest.raises(OSError, match=r"Free space, then train again: .*ppo\.npz"):
        _weights_files.write(path, bytes(100))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"ppo.npz": b"old"}


def test_a_log_that_does_not_fit_is_named(tmp_path, room):
    lines = [({"update": update}, None) for update in range(9)]
    with room(40), pytest.raises(OSError, match=r"Free space, then train again: .*ppo\.jsonl"):
        keep_best(lines, tmp_path / "ppo.npz")
