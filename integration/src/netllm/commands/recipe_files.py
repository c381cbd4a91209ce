"""Recipes: the options of a command in a TOML file, read under its flags and written by its run.

```toml
command = "adapt"
task = "abr"
pool = "runs/pool"
steps = 400

[set]
latency_s = 0.1
```
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App, ArgumentCollection, Token
from cyclopts.config import Dict

from netllm import registry
from netllm.commands.options import overrides

if TYPE_CHECKING:
    from cyclopts.argument import Argument
    from netllm_adapt import Recipe

TABLES = ("set", "train")
"""Options that take FIELD=VALUE: tables of a recipe."""
UNREPEATED = frozenset(
    {
        *("out", "append", "resume", "jobs", "trust_backbone", "update_card", "recipe"),
        *("backend", "address"),
        *("json", "quiet", "verbose"),
    },
)
"""Options of one run alone, which change no result, and trust: no recipe holds them."""
MOST_BYTES = 1_000_000
"""A recipe that is longer is none."""
_COMMAND = "command"
_BEFORE_TRACKERS = "tensorboard"
"""What earlier versions wrote into every recipe, true or false, in place of `tracker`."""


def read_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Put what `--recipe` names under the flags.

    Raises:
        ValueError: naming file and line, if it is not TOML, is for another command or task, or has
            a key that the command does not know.
    """
    del app
    by_key = {_key(one): one for one in arguments}
    given = by_key.get("recipe")
    if given is None or not given.tokens:
        return
    file = TomlFile(Path(given.tokens[0].value))
    known = {key: one for key, one in by_key.items() if key and key not in UNREPEATED}
    for key, value in file.content.items():
        name = key.replace("-", "_")
        if name == _COMMAND:
            file.check(key, " ".join(commands))
        elif name not in known:
            raise file.unknown(key, [_COMMAND, *known], " ".join(commands))
        elif name in TABLES:
            _add_assignments(known[name], file.table(key), str(file.path))
        elif known[name].field_info.is_positional and known[name].tokens:
            file.check(key, known[name].tokens[0].value)
        elif not any(token.source == "cli" for token in known[name].tokens):
            _put(known[name], value, f"{file.path}:{file.line(key)}")


def read_task_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Put the task's own recipe, its best known one, under flags and file."""
    from netllm.commands.recipe_flags import Recipe as Flags

    given = {_key(one): one.tokens for one in arguments}
    if not (task := given.get("task")):
        return
    backbone = given["backbone"][0].value if given.get("backbone") else None
    best = dataclasses.asdict(registry.task(task[0].value).recipe(backbone))
    usual = dataclasses.asdict(Flags())
    own = {name: value for name, value in best.items() if name in usual and value != usual[name]}
    layer = Dict(own, source=f"recipe of {task[0].value}", use_commands_as_keys=False)
    layer(app, commands, arguments)


def recipe_for(task: str, backbone: str, flags: Recipe) -> Recipe:
    """What the flags say as a recipe of the task, which may have fewer fields.

    Raises:
        ValueError: if a flag is given that the task's recipe lacks.
    """
    usual = registry.task(task).recipe(backbone)
    own = {field.name for field in dataclasses.fields(usual)}
    for field in dataclasses.fields(flags):
        if field.name not in own and getattr(flags, field.name) != field.default:
            raise ValueError(
                f"The recipe of {task} has no `{field.name}`. Leave out "
                f"--{field.name.replace('_', '-')}."
            )
    given = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    return dataclasses.replace(usual, **{name: given[name] for name in own & given.keys()})


def write_recipe(path: Path, command: str, arguments: Mapping[str, Any]) -> None:
    """Write the options of a run, so that `netllm COMMAND --recipe` repeats it."""
    import tomli_w
    from netllm_adapt.files.writing import new_file

    if flags := arguments.get("recipe"):  # those of other tasks are left out
        own = recipe_for(arguments["task"], arguments["backbone"], flags)
        arguments = {**arguments, "recipe": own}
    content: dict[str, Any] = {_COMMAND: command, **dict(_options(arguments))}
    tables = {key: content.pop(key) for key in TABLES if key in content}
    text = (
        f"# Repeats this run: netllm {command} --recipe {path.name} --out FOLDER\n"
        f"{tomli_w.dumps({**content, **tables})}"
    )
    with new_file(path) as work:
        work.write_text(text, encoding="utf-8")


def _options(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values as TOML has them; what is None is left out."""
    for name, value in arguments.items():
        key = name.removesuffix("_")
        if dataclasses.is_dataclass(value):
            members = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            yield from _options(members)
        elif key in TABLES:
            if table := overrides(value):
                yield key, table
        elif key.removesuffix("_file") not in UNREPEATED and value not in (None, ()):
            yield key, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


class TomlFile:
    """A file of options with the places of its keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        from netllm_adapt.files.reading import read_bounded

        try:
            self.text = read_bounded(path, MOST_BYTES).decode()
            self.content = tomllib.loads(self.text)
            if self.content.pop(_BEFORE_TRACKERS, False):
                self.content.setdefault("tracker", _BEFORE_TRACKERS)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: must be TOML, but {error}.") from error
        except ValueError as error:  # Python's own limits, such as that of a number's digits
            told = str(error)
            raise ValueError(told if str(path) in told else f"{path}: {told}.") from error

    def line(self, key: str) -> int:
        """The line on which a key of the top level stands, or its table begins."""
        quoted = f"[\"']?{re.escape(key)}[\"']?"
        pattern = re.compile(rf"\s*(\[\s*{quoted}\s*\]|{quoted}\s*[.=])")
        lines = enumerate(self.text.splitlines(), 1)
        return next((number for number, line in lines if pattern.match(line)), 1)

    def check(self, key: str, wanted: str) -> None:
        """Raise unless the recipe's value is the one of the command line."""
        if self.content[key] != wanted:
            raise ValueError(
                f"{self.path}:{self.line(key)}: the recipe is for {self.content[key]!r}, not for "
                f"{wanted!r}. Give another --recipe, or change that line."
            )

    def table(self, key: str) -> Mapping[str, Any]:
        """The fields of a table."""
        value = self.content[key]
        if not isinstance(value, dict):
            raise ValueError(
                f"{self.path}:{self.line(key)}: `{key}` must be a table of fields, as in\n"
                f"[{key}]\nFIELD = VALUE"
            )
        return value

    def unknown(self, key: str, known: Sequence[str], command: str) -> ValueError:
        """The error of a key that the command lacks."""
        text = registry.unknown(f"key of a recipe for `netllm {command}`", key, known)
        return ValueError(f"{self.path}:{self.line(key)}: {text}")


def _key(argument: Argument) -> str:
    """What a recipe calls an option; an argument by position is called by its name."""
    return argument.name.lstrip("-").replace("-", "_").lower()


def _put(argument: Argument, value: Any, source: str) -> None:
    """Give an option its value, in place of one of the environment."""
    _, many = argument.token_count()
    values = value if isinstance(value, list) and many else [value]
    if any(isinstance(one, dict | list) for one in values):
        wanted = "one value or a list of values" if many else "one value"
        raise ValueError(f"{source}: `{_key(argument)}` must be {wanted}, got {value!r}.")
    argument.tokens.clear()
    for index, one in enumerate(values):
        argument.append(Token(keyword=argument.name, value=str(one), source=source, index=index))


def _add_assignments(argument: Argument, fields: Mapping[str, Any], source: str) -> None:
    """Add FIELD=VALUE of the recipe for every field that no flag sets."""
    import tomli_w

    given = {token.value.partition("=")[0].strip().replace("-", "_") for token in argument.tokens}
    for name, value in fields.items():
        if name.replace("-", "_") in given:
            continue
        text = tomli_w.dumps({"x": value}).partition("=")[2].strip()
        index = len(argument.tokens)
        argument.append(
            Token(keyword=argument.name, value=f"{name}={text}", source=source, index=index)
        )
