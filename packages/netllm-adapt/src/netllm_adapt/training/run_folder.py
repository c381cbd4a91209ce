"""What a run keeps on disk, and the running average of its parameters."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from netllm_adapt.files.locks import lock_names, locked
from netllm_adapt.files.reading import decode_json, read_bounded, read_json
from netllm_adapt.files.writing import clear, new_file, writing
from netllm_adapt.training.state_file import read_state, write_state

_THEN = "run the command again with --resume"
_SETTINGS, _STATE, _FINISHED = "settings.json", "state.safetensors", "finished.json"
_LONGEST_LOG = 1 << 30


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def check_out(path: Path, *, resume: bool) -> None:
    """Refuse a folder that a run must not be written to.

    Args:
        path: the folder; may be missing.
        resume: the run that is there is to be continued.

    Raises:
        NotADirectoryError: if it is a file.
        ValueError: if it holds something else than a run, or a run and `resume` is false.
        BlockingIOError: if somebody else is writing it.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise NotADirectoryError(
            f"{path}: must be the folder of a run, got a file. Choose another `--out`."
        )
    names = _names(path)
    if names and not _holds_run(path):
        raise ValueError(
            f"{path}: must be new, empty or the folder of a run, got a folder that holds "
            f"{min(names)!r} and no run. Choose another `--out`."
        )
    if names and not resume:
        raise ValueError(f"{path} already holds a run. `--resume` it, or choose another `--out`.")
    if os.environ.get("RANK", "0") == "0":  # of several processes that share a run, one writes
        with locked(path):
            pass


def _names(path: Path) -> set[str]:
    """What lies there, but for what a run leaves that ends before its first step."""
    early = {f".{_SETTINGS}.partial", "tensorboard", *lock_names()}
    return {entry.name for entry in path.iterdir()} - early


def _holds_run(path: Path) -> bool:
    known = path / _SETTINGS
    return known.is_file() and {"recipe", "spec"} <= read_json(known).keys()


class RunFolder:
    """The folder of a run: settings, log, resumable state; a context manager.

    Until the block ends nobody else writes it. A run that fails before it logged anything leaves
    the folder to another.

    Args:
        path: the folder.
        settings: what a resumed run must agree with: parts of named values, ready for JSON.
        resume: continue the run that is there.
        tensorboard: also write the log to `tensorboard` in the folder.
        writes: whether this process writes; of several that share a run, one does.

    Raises:
        NotADirectoryError: if `path` is a file.
        ValueError: if there is a run and `resume` is false, or one with other settings; if there
            is something else.
        BlockingIOError: if somebody else is writing it.
        ModuleNotFoundError: if `tensorboard` is asked for but not installed.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        tensorboard: bool = False,
        writes: bool = True,
    ) -> None:
        self.path = path
        self.best: float | None = None
        self._curves: Any = None
        self._writes = writes
        self._lock = ExitStack()
        if not writes:
            return
        check_out(path, resume=resume)
        self._lock.enter_context(locked(path))
        try:
            self._open(settings, resume, tensorboard)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, settings: Mapping[str, Any], resume: bool, tensorboard: bool) -> None:
        path = self.path
        check_out(path, resume=resume)  # once more: another may have written it meanwhile
        for name in ("best", "last"):
            clear(path / name)
        for half in filter(Path.is_file, path.glob(".*.partial")):
            half.unlink(missing_ok=True)
        settings = json.loads(json.dumps(settings, default=str))
        known = path / _SETTINGS
        if known.exists():
            self._check(read_json(known, dict[str, dict[str, Any]]), settings)
        with new_file(known, then=_THEN) as work:
            work.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        self._curves = _curves(path / "tensorboard") if tensorboard else None

    @property
    def state(self) -> Path:
        """The file that the run is resumed from."""
        return self.path / _STATE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            if kind is not None and self._writes and _names(self.path) == {_SETTINGS}:
                (self.path / _SETTINGS).unlink()

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end, and what it kept is there."""
        return all((self.path / name).exists() for name in (_FINISHED, _STATE, "best"))

    def finish(self) -> None:
        """Note that nothing is left to do."""
        if self._writes and not self.finished:
            with new_file(self.path / _FINISHED, then=_THEN) as work:
                work.write_text('{"finished": true}\n', encoding="utf-8")

    def _check(self, old: dict[str, Any], new: Mapping[str, Any]) -> None:
        # A run that an earlier version began lacks what that did not keep: nothing to compare.
        differences = [
            f"{_label(part, name)}={begun!r}, got {values[name]!r}"
            for part, values in new.items()
            for name, begun in old.get(part, {}).items()
            if name in values and begun != values[name]
        ]
        if differences:
            told = "; with ".join(dict.fromkeys(differences))  # recipe and spec share fields
            raise ValueError(
                f"{self.path}: the run was begun with {told}. Resume with "
                "what its settings.json says, or begin another run: choose another `--out`."
            )

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to `log.jsonl`."""
        if not self._writes:
            return
        path = self.path / "log.jsonl"
        with writing(path, path, then=_THEN), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._curves is not None:
            for name in line.keys() - {"step"}:
                self._curves.add_scalar(name, line[name], line["step"])
            self._curves.flush()

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep what the run can be resumed from."""
        with new_file(self.state, then=_THEN) as work:
            write_state(work, state)

    def load_state(self) -> dict[str, Any] | None:
        """The last kept state, or None; the log forgets what came after it.

        Raises:
            ValueError: naming the file, if it is damaged or an earlier version's.
        """
        path = self.state
        if not path.exists():
            self._refuse_earlier()
            if self._writes:
                (self.path / "log.jsonl").unlink(missing_ok=True)
            return None
        state = read_state(path)
        if type(state.get("step")) is not int:
            raise ValueError(f"{path}: must have the run's `step`, got {state.get('step')!r}.")
        if self._writes:
            self._forget_after(state["step"])
        return state

    def _refuse_earlier(self) -> None:
        earlier = self.path / "state.pt"
        if earlier.exists():
            raise ValueError(
                f"{earlier}: a state of netllm-adapt before its first release is a pickle, which "
                "is not read. Begin another run from the last checkpoint, with `--start`."
            )

    def _forget_after(self, step: int) -> None:
        kept = [json.dumps(line) + "\n" for line in read_log(self.path) if line["step"] <= step]
        with new_file(self.path / "log.jsonl", then=_THEN) as work:
            work.write_text("".join(kept), encoding="utf-8")


def _label(part: str, name: str) -> str:
    return "backbone" if (part, name) == ("spec", "name") else name


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


def _curves(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ModuleNotFoundError(
            "Recipe: `tensorboard` needs TensorBoard. Run: pip install 'netllm-adapt[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder))  # type: ignore[no-untyped-call]


class Average:
    """The running average of the trainable parameters; smoother than the last ones.

    `decay` 0 keeps nothing. Early on the decay is smaller, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {}
        if decay:
            self.values = {n: p.detach().clone() for n, p in trained(model).items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the parameters after optimiser step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in trained(model).items():
            if name in self.values:
                self.values[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged parameters, for the block."""
        own = {n: p.detach().clone() for n, p in trained(model).items() if n in self.values}
        model.load_state_dict(self.values, strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)


def model_facts(model: nn.Module) -> dict[str, Any]:
    """What tells a model from others of its backbone, beside its weights."""
    shapes = {name: list(parameter.shape) for name, parameter in trained(model).items()}
    facts = {name: getattr(model, name) for name in ("window", "segment") if hasattr(model, name)}
    facts["trained"] = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]
    backbone: Any = model.backbone
    for name, config in getattr(backbone, "peft_config", {}).items():
        for field in ("r", "lora_alpha", "use_rslora"):
            if hasattr(config, field):  # other kinds of adapters have other fields
                facts[f"{name}.{field}"] = getattr(config, field)
    return facts
