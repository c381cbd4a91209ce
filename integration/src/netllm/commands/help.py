"""`netllm COMMAND TASK --help`: options with the task's own defaults, and its fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from cyclopts import App
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel

from netllm import registry
from netllm.task import PoolTask
from netllm.task.fields import Field, described, fields_of

if TYPE_CHECKING:
    from rich.console import Console

    from netllm.task import Task


def show_help(app: App, words: Sequence[str], console: Console | None = None) -> None:
    """Print the help of a command; what belongs to a task is shown if one is named.

    Args:
        app: the program.
        words: what was asked for, without `--help`.
        console: where it is printed; standard output if None.
    """
    commands, _, rest = app.parse_commands(words)
    task = next((word for word in rest if word in registry.tasks()), None)
    if task is None:
        app.help_print(words, console=console)
        return
    found = registry.task(task)
    before = app.help_formatter
    app.help_formatter = _Formatter(dict(_defaults(commands[0], found, rest)))
    try:
        app.help_print(words, console=console)
    finally:
        app.help_formatter = before
    console = console or app.console
    for panel in _panels(commands[0], found, rest):
        DefaultFormatter()(console, console.options, panel)


class _Formatter:
    """The usual panels with other defaults, and without the fields of other tasks' recipes."""

    def __init__(self, defaults: Mapping[str, str | None]) -> None:
        self._defaults = defaults
        self._usual = DefaultFormatter()

    def __call__(self, console: Console, options: Any, panel: HelpPanel) -> None:
        some = [one for one in panel.entries if panel.title != "Recipe" or self._key(one)]
        self._usual(console, options, panel.copy(entries=[self._own(one) for one in some]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)

    def _own(self, entry: HelpEntry) -> HelpEntry:
        key = self._key(entry)
        return entry.copy(default=self._defaults[key]) if key else entry

    def _key(self, entry: HelpEntry) -> str | None:
        """The option's name, if its default is the task's."""
        names = (name.lstrip("-").replace("-", "_") for name in entry.positive_names)
        return next((name for name in names if name in self._defaults), None)


def _defaults(command: str, task: Task, words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Options whose default is the task's, by key."""
    if command == "adapt":
        recipe = task.recipe(_given(words, "--backbone"))
        yield from ((one.name, one.default) for one in described(recipe))
        yield "validation", "all" if task.validation is None else str(task.validation)
    elif command == "improve" and isinstance(task, PoolTask):
        from netllm.verbs.improve import steps_of_a_round

        recipe = task.recipe(None)
        own = dict.fromkeys((one.name for one in described(recipe)), "the checkpoint's own")
        yield from {**own, "steps": str(steps_of_a_round(recipe.steps))}.items()
        yield "validation", "all" if task.validation is None else str(task.validation)
        yield "teacher", task.teacher or None
    elif command == "test":
        yield "policy", " ".join(task.rivals)
        yield "seeds", " ".join(map(str, task.seeds(task.setting("synthetic", data=None))))


def _given(words: Sequence[str], option: str) -> str | None:
    for word, after in zip(words, [*words[1:], None], strict=True):
        if word == option:
            return after
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _panels(command: str, task: Task, words: Sequence[str]) -> Iterator[HelpPanel]:
    """What the task has to choose from."""
    if command not in ("rl-collect", "adapt", "improve", "test", "real", "train-baseline"):
        return
    settings = [Field(name, text, None) for name, text in task.settings().items()]
    yield _panel(f"Settings of {task.name} (--setting)", settings)
    name = _given(words, "--setting") or next(iter(task.settings()))
    fields = fields_of(task.setting(name, data=_given(words, "--data")))
    if fields:
        yield _panel(f"Fields of the setting {name} (--set FIELD=VALUE)", fields)
    if command == "train-baseline":
        yield from _trainers(task, words)
    elif command in ("rl-collect", "improve", "test", "real"):
        text = ", ".join(registry.policies(task.name))
        option = "--teacher" if command == "improve" else "--policy"
        yield _panel(f"Policies of {task.name} ({option})", [], text)


def _trainers(task: Task, words: Sequence[str]) -> Iterator[HelpPanel]:
    """Which rivals can be trained, or what else one of them can be told."""
    from pkgutil import resolve_name

    name = next((word for word in words if word in task.trainers), None)
    if name is None:
        yield _panel(
            f"Rivals that can be trained for {task.name} (NAME)", [], ", ".join(task.trainers)
        )
        return
    trainer = resolve_name(task.trainers[name])
    options = inspect.signature(trainer).parameters
    kind = get_type_hints(trainer).get("recipe") if "recipe" in options else None
    members = [one for one in getattr(kind, "__args__", (kind,)) if isinstance(one, type)]
    recipes = [one() for one in members if one is not type(None)]
    fields = [field for recipe in recipes for field in described(recipe)]
    if fields:
        yield _panel(f"Settings of training {name} (--train FIELD=VALUE)", fields)


def _panel(title: str, fields: Iterable[Field], text: str = "") -> HelpPanel:
    entries = [
        HelpEntry(positive_names=(one.name,), description=one.text, default=one.default)
        for one in fields
    ] or [HelpEntry(description=text)]
    return HelpPanel(format="parameter", title=title, entries=entries)
