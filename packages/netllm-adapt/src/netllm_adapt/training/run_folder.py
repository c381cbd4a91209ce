"""The folder of a run: settings, log, and the state that it is resumed from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from netllm_adapt.files.locks import lock_names, locked
from netllm_adapt.files.reading import decode_json, read_bounded, read_json
from netllm_adapt.files.writing import check_replaceable, clear_leftovers, new_file, writing
from netllm_adapt.training.resume_state import read_state, write_state
from netllm_adapt.training.trackers import Tracker, tracking

_THEN = "run the command again with --resume"
_SETTINGS, _STATE, _FINISHED = "settings.json", "state.safetensors", "finished.json"
_FAILED = "failed.json"
_EARLY = (f".{_SETTINGS}.partial", *get_args(Tracker))
"""What a run leaves that ends before its first step."""
_LONGEST_LOG = 1 << 30


def check_out(path: Path, *, resume: bool) -> None:
    """Refuse a folder that a run must not be written to.

    Args:
        path: the folder; may be missing.
        resume: the run that is there is to be continued.

    Raises:
        FileExistsError: if it is a file, or holds something else than a run.
        ValueError: if it holds a run and `resume` is false.
        BlockingIOError: if somebody else is writing it.
    """
    check_replaceable(path, "the folder of a run", ours=holds_run, allowed=_EARLY)
    if not path.exists():
        return
    if holds_run(path) and not resume:
        raise ValueError(f"{path} already holds a run. `--resume` it, or choose another `--out`.")
    if os.environ.get("RANK", "0") == "0":  # of several processes that share a run, one writes
        with locked(path):
            pass


def holds_run(path: Path) -> bool:
    """Whether a folder holds a run of `fit`."""
    known = path / _SETTINGS
    return known.is_file() and {"recipe", "spec"} <= read_json(known).keys()


@contextmanager
def open_run(
    path: Path,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    tracker: Tracker | None = None,
    writes: bool = True,
) -> Iterator[RunFolder]:
    """The folder of a run, which nobody else writes until the block ends.

    A run that fails before it logged anything leaves the folder to another; later it leaves its
    error there.

    Args:
        path: the folder.
        settings: what a resumed run must agree with: parts of named values, ready for JSON.
        resume: continue the run that is there.
        tracker: what also gets the log.
        writes: whether this process writes; of several that share a run, one does.

    Raises:
        FileExistsError: if `path` is a file, or holds something else than a run.
        ValueError: if there is a run and `resume` is false, or one with other settings.
        BlockingIOError: if somebody else is writing it.
        ModuleNotFoundError: if the tracker is not installed.
    """
    folder = RunFolder(path, writes=writes)
    if not writes:
        yield folder
        return
    check_out(path, resume=resume)
    with locked(path):
        check_out(path, resume=resume)  # once more: another may have written it meanwhile
        for name in ("best", "last"):
            clear_leftovers(path / name)
        for half in filter(Path.is_file, path.glob(".*.partial")):
            half.unlink(missing_ok=True)
        plain = json.loads(json.dumps(settings, default=str))
        folder.begin(plain)
        try:
            with tracking(tracker, path, plain) as folder.tracker:
                yield folder
        except BaseException as error:
            names = {entry.name for entry in path.iterdir()} - {*lock_names(), *_EARLY}
            if names == {_SETTINGS}:
                (path / _SETTINGS).unlink()
            else:
                folder.fail(error)
            raise


class RunFolder:
    """What a run keeps in its folder: settings, log, resumable state; see `open_run`."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path = path
        self.tracker: Any = None
        """Accelerate's, if there is one."""
        self._writes = writes

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings.

        Raises:
            ValueError: if those of the run that is there differ.
        """
        known = self.path / _SETTINGS
        old = read_json(known, dict[str, dict[str, Any]]) if known.exists() else {}
        differences = [
            f"{'backbone' if part == 'spec' and name == 'name' else name}={begun!r}, "
            f"got {values[name]!r}"
            for part, values in settings.items()
            for name, begun in old.get(part, {}).items()
            if name in values and begun != values[name]  # another version may know other names
        ]
        if differences:
            shown = "; with ".join(dict.fromkeys(differences))  # recipe and spec share fields
            raise ValueError(
                f"{self.path}: the run was begun with {shown}. Resume with "
                "what its settings.json says, or begin another run: choose another `--out`."
            )
        self._write(_SETTINGS, json.dumps(settings, indent=2) + "\n")
        (self.path / _FAILED).unlink(missing_ok=True)

    def fail(self, error: BaseException) -> None:
        """Note what ended the run, for whoever asks how it stands."""
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):  # the disk may be full: what counts is the error itself
            self._write(_FAILED, json.dumps({"error": told, "at": at}) + "\n")

    def _write(self, name: str, text: str) -> None:
        with new_file(self.path / name, then=_THEN) as work:
            work.write_text(text, encoding="utf-8")

    @property
    def state(self) -> Path:
        """The file that the run is resumed from."""
        return self.path / _STATE

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end, and what it kept is there."""
        return all((self.path / name).exists() for name in (_FINISHED, _STATE, "best"))

    def finish(self) -> None:
        """Note that nothing is left to do."""
        if self._writes and not self.finished:
            self._write(_FINISHED, '{"finished": true}\n')

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to `log.jsonl`, and tell the tracker."""
        if not self._writes:
            return
        path = self.path / "log.jsonl"
        with writing(path, path, then=_THEN), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._track(line)

    def _track(self, line: Mapping[str, Any]) -> None:
        if self.tracker is not None:
            figures = {name: value for name, value in line.items() if name != "step"}
            self.tracker.log(figures, step=line["step"])

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep what the run can be resumed from."""
        if not self._writes:
            return
        with new_file(self.state, then=_THEN) as work:
            write_state(work, state)

    def load_state(self) -> dict[str, Any] | None:
        """The last kept state, or None; log and tracker have nothing that came after it.

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        log = self.path / "log.jsonl"
        if not self.state.exists():
            if self._writes:
                log.unlink(missing_ok=True)
            return None
        state = read_state(self.state)
        step = state.get("step")
        if type(step) is not int:
            raise ValueError(f"{self.state}: must have the run's `step`, got {step!r}.")
        if self._writes:
            lines = [line for line in read_log(self.path) if line["step"] <= step]
            self._write(log.name, "".join(json.dumps(line) + "\n" for line in lines))
            for line in lines:
                self._track(line)
        return state


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without the half of a last one that a killed run may leave.

    Raises:
        ValueError: naming file and line, if another one is damaged.
    """
    path = Path(run) / "log.jsonl"
    raw = read_bounded(path, _LONGEST_LOG).split(b"\n")
    lines = []
    for number, text in enumerate(raw, 1):
        if not text and number == len(raw):
            break
        try:
            lines.append(decode_json(text, dict[str, Any], name=str(path), line=number))
            if type(lines[-1].get("step")) is not int:
                raise ValueError(f"{path}:{number}: must have a whole number as its `step`.")
        except ValueError as error:
            if number < len(raw):
                raise ValueError(f"{error} Or delete that line.") from error
    return lines
