"""Trackers get the log of a run, no more and no less, and nobody else gets anything."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapt_parts import make_episode
from netllm_adapt import AdaptedModel, fit
from netllm_adapt.training.run_folder import read_log
from training_parts import EPISODES, make_model, recipe

Curves = dict[tuple[str, int], float]
"""Figures by their name and step."""
USED = """
import sys
from pathlib import Path
from accelerate import Accelerator
from netllm_adapt.training.trackers import tracking

Accelerator(cpu=True)
with tracking(sys.argv[1], Path(sys.argv[2]), {}) as tracker:
    tracker.log({"loss": 1.0}, step=1)
"""


def installed(name: str) -> Any:
    reason = f"needs {name}: install netllm-adapt[{name}]"
    return pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=reason))


ALL = [installed(name) for name in ("tensorboard", "trackio", "wandb")]


@pytest.fixture(autouse=True)
def _own_folders(registered_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_ERROR_REPORTING", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module", autouse=True)
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Trackio takes it once for a process."""
    folder = tmp_path_factory.mktemp("trackio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder))
        yield folder


def of_tensorboard(run: Path, _: Path) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    found = [(name, e) for name in events.Tags()["scalars"] for e in events.Scalars(name)]
    assert len({(name, event.step) for name, event in found}) == len(found)
    return {(name, event.step): event.value for name, event in found}


def of_trackio(_: Path, folder: Path) -> Curves:
    with closing(sqlite3.connect(folder / "netllm.db")) as base:
        (last,) = base.execute("SELECT run_id FROM configs ORDER BY id DESC").fetchone()
        rows = base.execute("SELECT step, metrics FROM metrics WHERE run_id = ?", (last,))
        found = [(name, step, v) for step, row in rows for name, v in json.loads(row).items()]
    assert len({(name, step) for name, step, _ in found}) == len(found)
    return {(name, step): value for name, step, value in found}


def of_wandb(run: Path, _: Path) -> Curves:
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    found: Curves = {}
    for item in records(file.read_bytes()):
        if item.WhichOneof("record_type") == "history":
            row = {one.key or one.nested_key[0]: one.value_json for one in item.history.item}
            values = {name: json.loads(value) for name, value in row.items()}
            new = {(k, values["_step"]): v for k, v in values.items() if not k.startswith("_")}
            assert not new.keys() & found.keys()
            found |= new
    return found


def records(raw: bytes) -> Iterator[Any]:
    """Of a log of LevelDB: blocks of 32 KiB, in them parts, each with sum, length and kind."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole = 7, b""
    while place + 7 <= len(raw):
        if 32_768 - place % 32_768 < 7:
            place += 32_768 - place % 32_768
        length, kind = int.from_bytes(raw[place + 4 : place + 6], "little"), raw[place + 6]
        whole += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of it, or its last part
            yield Record.FromString(whole)
            whole = b""


def used(name: str, run: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that tells a tracker one figure."""
    command = (sys.executable, "-W", "error", "-c", USED, name, str(run))
    kept = {key: value for key, value in os.environ.items() if key != "no_proxy"}
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True)


READERS: dict[str, Callable[[Path, Path], Curves]] = {
    "tensorboard": of_tensorboard,
    "trackio": of_trackio,
    "wandb": of_wandb,
}


def logged(run: Path) -> Curves:
    lines = read_log(run)
    return {(name, line["step"]): line[name] for line in lines for name in line if name != "step"}


def validation(stop_at: int | None) -> Callable[[AdaptedModel], dict[str, float]]:
    calls: list[int] = []

    def validate(model: AdaptedModel) -> dict[str, float]:
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return {"qoe": float(len(calls))}

    return validate


@pytest.mark.parametrize("begun_with", [None, "same"])
@pytest.mark.parametrize("name", ALL)
def test_a_run_that_was_cut_off_has_every_step_of_its_log_once(
    name: Any, begun_with: str | None, tmp_path: Path, trackio_folder: Path
) -> None:
    run: Any = {"recipe": recipe(), "out": tmp_path}
    first = name if begun_with else None
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), EPISODES, **run, validate=validation(2), tracker=first)
    if first:
        assert READERS[name](tmp_path, trackio_folder) == pytest.approx(logged(tmp_path))
    fit(make_model(), EPISODES, **run, validate=validation(None), tracker=name, resume=True)
    log = logged(tmp_path)
    assert {("loss", 2), ("loss", 12), ("qoe", 4), ("qoe", 12)} < log.keys()
    assert READERS[name](tmp_path, trackio_folder) == pytest.approx(log)


@pytest.mark.parametrize("name", ALL)
def test_a_run_that_failed_at_its_first_step_leaves_its_folder_to_another(
    name: Any, tmp_path: Path, trackio_folder: Path
) -> None:
    wrong = make_episode(12, 0)
    wrong.labels = np.full(12, 99)
    with pytest.raises(IndexError):
        fit(make_model(), [wrong], recipe=recipe(), out=tmp_path, tracker=name)
    assert {path.name for path in tmp_path.iterdir()} <= {name}
    fit(make_model(), EPISODES, recipe=recipe(steps=2), out=tmp_path, tracker=name)
    assert READERS[name](tmp_path, trackio_folder) == pytest.approx(logged(tmp_path))


@pytest.mark.parametrize("name", ALL)
def test_a_tracker_says_nothing_and_calls_nobody(name: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        told = used(name, tmp_path, HTTPS_PROXY=address, HTTP_PROXY=address, NO_PROXY="")
        assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_is_written(
    name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match=rf"netllm-adapt\[{name}\]"):
        fit(make_model(), EPISODES, recipe=recipe(), out=tmp_path / "run", tracker=name)
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    other: Any = "mlflow"
    with pytest.raises(ValueError, match="one of tensorboard, trackio, wandb, or None, got 'mlfl"):
        fit(make_model(), EPISODES, recipe=recipe(), out=tmp_path / "run", tracker=other)


@pytest.mark.parametrize("name", ALL)
def test_a_tracker_that_cannot_write_ends_the_run_before_it_learns(
    name: Any, tmp_path: Path
) -> None:
    (tmp_path / name).touch()  # a file where its folder would be
    told = used(name, tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
    assert told.returncode == 1
    assert name in told.stderr.splitlines()[-1]
