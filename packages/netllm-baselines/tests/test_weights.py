"""Damaged weights are refused by name, or are the numbers that the file holds."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from netllm_baselines.abr import PPO, Comyco, Fugu, Genet
from netllm_baselines.cjs import Decima
from netllm_baselines.cjs.decima import OURS
from netllm_baselines.vp import GRU
from netllm_baselines.vp.weights_file import shipped as shipped_vp
from netllm_sims import cjs, vp
from numpy import ndarray

Load = Callable[[Path], Any]


def genet(path: Path) -> None:
    shapes = {"fc_hidden": (768, 128), "fc_out": (128, 3)}
    for name in ("fc_bitrate", "fc_buffer", "fc_remain"):
        shapes[name] = (1, 128)
    for name in ("conv_throughput", "conv_delay", "conv_chunksizes"):
        shapes[name] = (4, 1, 6, 128)
    weights = {f"actor.{name}.W": np.ones(shape) for name, shape in shapes.items()}
    np.savez(path, **weights, **{f"actor.{n}.b": np.zeros(s[-1]) for n, s in shapes.items()})


@pytest.fixture(params=["genet", "ppo", "fugu", "comyco", "gru", "decima"])
def kind(request, synthetic, tmp_path) -> tuple[Path, Load]:
    """A file of weights, and what loads it."""
    if request.param == "genet":
        genet(tmp_path / "genet.npz")
        return tmp_path / "genet.npz", lambda path: Genet(synthetic, weights=path)
    if request.param == "gru":
        pytest.importorskip("torch")
    original, load = {
        "ppo": (PPO.shipped(synthetic), lambda path: PPO(synthetic, weights=path)),
        "fugu": (Fugu.shipped(), lambda path: Fugu(synthetic, weights=path)),
        "comyco": (Comyco.shipped(), lambda path: Comyco(synthetic, weights=path)),
        "gru": (
            shipped_vp("gru-synthetic"),
            lambda path: GRU(vp.setting("synthetic"), weights=path),
        ),
        "decima": (Path(OURS), lambda path: Decima(cjs.setting("synthetic"), weights=path)),
    }[request.param]
    copy = tmp_path / original.name
    copy.write_bytes(original.read_bytes())
    return copy, load


def refusal(file: Path, load: Load) -> str:
    """The message with which the file is refused; empty if it is not."""
    try:
        load(file)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def test_damaged_bytes_are_refused_by_name(kind):
    file, load = kind
    assert refusal(file, load) == ""
    content = file.read_bytes()
    messages = []
    for seed in range(25):
        random = Random(seed)
        at = random.randrange(2_000 if seed % 2 else len(content))
        flipped = content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
        file.write_bytes(random.choice((flipped, flipped, content[:at])))
        messages.append(refusal(file, load))
    told = [message for message in messages if message]
    assert len(told) > 5
    assert [one for one in told if file.name not in one or len(one) > 2_000] == []


def rewritten(file: Path, name: str, change: Callable[[ndarray], ndarray]) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    array = change(np.load(io.BytesIO(members[f"{name}.npy"])))
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    members[f"{name}.npy"] = stream.getvalue()
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda array: array.T, r"must be of shape \(768, 128\), got shape \(128, 768\)"),
        (lambda array: array * np.nan, "must hold finite numbers"),
        (lambda array: array.astype(object), "Python objects"),
        (lambda array: array.astype(int), "floating-point numbers, got int64"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(synthetic, tmp_path, change, message):
    file = tmp_path / "genet.npz"
    genet(file)
    rewritten(file, "actor.fc_hidden.W", change)
    with pytest.raises(ValueError, match=rf"genet\.npz: .*fc_hidden.*{message}"):
        Genet(synthetic, weights=file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "lists and objects may lie within one another"),
        ('{"seed": ' + "9" * 5_000 + "}", "at most 19 digits"),
        ('{"kind": "gru", "hidden": 90000}', "`hidden` is 90000, but there are"),
        ('{"kind": "gru", "hidden": "8"}', "hidden"),
        ("[1]", "must be a JSON object"),
    ],
)
def test_metadata_that_cannot_be_meant_are_refused(tmp_path, text, message):
    file = tmp_path / "gru.npz"
    file.write_bytes(shipped_vp("gru-synthetic").read_bytes())
    known = '"history": 10, "horizon": 20, "rate_hz": 5.0, "hidden"'
    rewritten(file, "meta", lambda _: np.array(text.replace('"hidden"', known)))
    with pytest.raises(ValueError, match=rf"gru\.npz: .*{message}"):
        GRU(vp.setting("synthetic"), weights=file)


def test_a_pipe_is_refused_and_not_waited_for(synthetic, tmp_path):
    pipe = tmp_path / "weights"
    os.mkfifo(pipe)
    for load in (
        lambda: Genet(synthetic, weights=pipe),
        lambda: PPO(synthetic, weights=pipe),
        lambda: GRU(vp.setting("synthetic"), weights=pipe),
        lambda: Decima(cjs.setting("synthetic"), weights=pipe),
    ):
        with pytest.raises(ValueError, match=r"weights: .*must be a regular file"):
            load()
