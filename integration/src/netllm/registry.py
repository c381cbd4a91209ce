"""Tasks and policies by name.

Both are entry points, looked up when they are asked for, so a third party adds one without
touching this repository: group `netllm.tasks` holds `abr = "netllm.abr:ABR"`, group
`netllm.policies` holds `"abr.bba" = "netllm_baselines.abr:BBA"`, a callable that takes the setting
and returns the policy. A name `"*.client"` is that of a policy of every task, called with the
task's name and the setting.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from netllm.task import DEFAULT_BACKBONE as DEFAULT_BACKBONE
from netllm.task import Policy, Task
from netllm.unknown_names import unknown as unknown

WEIGHTS = (".npz", ".safetensors")
"""Ends of the names of files that learned rivals read their weights from."""


class Unbuildable(ValueError):
    """A known policy that a setting or data folder cannot serve; the text is the policy's own."""

    @property
    def reason(self) -> str:
        """Its first sentence: what is missing, without what to do about it."""
        return re.split(r"(?<=\.)\s+(?=[A-Z])", str(self), maxsplit=1)[0]


def tasks() -> list[str]:
    """The names of all installed tasks."""
    return sorted(point.name for point in entry_points(group="netllm.tasks"))


def task(name: str) -> Task:
    """The task called `name`.

    Raises:
        ValueError: if no installed package registers it (lists the nearest names), or what one
            registers cannot be loaded or is no task.
    """
    for point in entry_points(group="netllm.tasks", name=name):
        kind = _loaded(point)
        if not (isinstance(kind, type) and issubclass(kind, Task)):
            raise ValueError(
                f"{_registration(point)} must be a subclass of netllm.task.PoolTask or "
                f"SupervisedTask, got {kind!r}."
            )
        if missing := _missing(kind):
            raise ValueError(f"{_registration(point)} lacks {', '.join(missing)}.")
        found: Task = kind()
        return found
    raise unknown("task", name, tasks())


def _missing(kind: type[Task]) -> list[str]:
    """What a task must have and this one has not."""
    missing = [*kind.__abstractmethods__]
    missing += [member for member in ("name", "metrics") if not hasattr(kind, member)]
    if not kind.presets and not kind.simulator and kind.setting is Task.setting:
        missing.append("presets")
    return sorted(missing)


def _loaded(point: EntryPoint) -> Any:
    """What an entry point names."""
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{_registration(point)} cannot be loaded: {error}. Correct or uninstall it."
        ) from error


def _registration(point: EntryPoint) -> str:
    package = f" of the package {point.dist.name}" if point.dist else ""
    return f"{point.name!r} ({point.value}){package}, registered as one of {point.group},"


def policies(task: str) -> list[str]:
    """The names of all installed policies of a task; without those of every task."""
    prefix = f"{task}."
    names = (point.name for point in entry_points(group="netllm.policies"))
    return sorted({name.removeprefix(prefix) for name in names if name.startswith(prefix)})


def policy(task: str, name: str, setting: Any, *, home: Path | None = None) -> Policy:
    """The policy `name` of a task, made for a setting.

    Args:
        task: the task's name.
        name: a registered policy; `NAME:FILE.npz` (or `.safetensors`) for one that reads its
            weights from that file; or `module:callable` for one's own: `callable(setting)` must
            return an object with `reset(seed)` and `act(observation)`.
        setting: what the policy is to act in.
        home: where files of weights, and one's own modules, are looked for; the working directory
            if None.

    Raises:
        ValueError: if the name is not known, what was built is no policy, or a policy that takes no
            weights is given some.
        Unbuildable: if the policy itself refuses the setting, or there is no such file of weights.
    """
    build = _builder(task, name, home or Path.cwd())
    _check_call(build, name)
    try:
        built: Policy = build(setting)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise Unbuildable(str(error)) from error
    for method in ("reset", "act"):
        if not callable(getattr(built, method, None)):
            raise ValueError(
                f"A policy must have reset(seed) and act(observation), but {name!r} built "
                f"a {type(built).__name__} without {method}()."
            )
    return built


def _check_call(build: Callable[[Any], Any], name: str) -> None:
    """Whether it takes the setting: an error within it is another matter."""
    try:
        signature = inspect.signature(build)
    except ValueError:
        return  # of some callables in C nobody knows
    try:
        signature.bind(object())
    except TypeError as error:
        raise ValueError(
            f"The policy {name!r} must be called with the setting and nothing else, as in "
            f"`def __init__(self, setting)`: {error}."
        ) from error


def _builder(task: str, name: str, home: Path) -> Callable[[Any], Any]:
    known, colon, rest = name.partition(":")
    if not (colon and known):
        return _registered(task, name)
    if Path(rest).suffix in WEIGHTS:
        return _weighted(task, known, home / Path(rest).expanduser())
    return _own(name, home)


def _weighted(task: str, name: str, file: Path) -> Callable[[Any], Any]:
    build = _registered(task, name)
    if "weights" not in inspect.signature(build).parameters:
        raise ValueError(
            f"The {task} policy {name!r} takes no weights, got {file.name}. Learned rivals do, "
            f"such as `netllm train-baseline {task}` trains."
        )
    return partial(build, weights=file)


def _registered(task: str, name: str) -> Callable[..., Any]:
    for point in entry_points(group="netllm.policies", name=f"{task}.{name}"):
        build: Callable[..., Any] = _loaded(point)
        return build
    for point in entry_points(group="netllm.policies", name=f"*.{name}"):
        return partial(_loaded(point), task)
    raise unknown(f"{task} policy", name, policies(task))


def _own(name: str, home: Path) -> Callable[[Any], Any]:
    module_name, _, attribute = name.partition(":")
    if "/" in module_name or module_name.startswith("."):
        raise ValueError(
            f"The policy {name!r} must name a module, not a file: in the file's folder write "
            f"{Path(module_name).stem}:{attribute}."
        )
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"The policy {name!r} needs the module {error.name!r}, which is neither installed "
            f"nor in {home}."
        ) from error
    build: Callable[[Any], Any] | None = getattr(module, attribute, None)
    if not callable(build):
        callables = [key for key, value in vars(module).items() if callable(value)]
        raise unknown(f"callable of the module {module_name!r}", attribute, callables)
    return build
