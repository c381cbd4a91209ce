"""Options of a command that are the arguments of a function: names, defaults and help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from netllm_adapt.training.trackers import Tracker

from netllm.commands.options import (
    Assignments,
    Data,
    Names,
    Numbers,
    Output,
    RecipeFile,
    Seeds,
    Trust,
    Workers,
)
from netllm.commands.options import overrides as overrides_of
from netllm.commands.printed_answer import Answer
from netllm.commands.recipe_flags import Changes, Recipe

KINDS: Mapping[str, Any] = {
    "str": str,
    "str | None": str | None,
    "int": int,
    "int | None": int | None,
    "float": float,
    "float | None": float | None,
    "bool": bool,
    "Path": Path,
    "str | Path": Path,
    "str | Path | None": Path | None,
    "str | Sequence[str]": Names,
    "str | Path | Sequence[str | Path]": Names,
    "int | Sequence[int]": Seeds,
    "float | Sequence[float]": Numbers,
    "Mapping[str, Any] | None": Assignments,
    "Tracker | None": Tracker | None,
    "Recipe | None": Annotated[Recipe, Parameter(name="*", group="Recipe")],
}
"""What an argument of the API is on the command line, by its annotation."""
RecipeChanges = Annotated[Changes, Parameter(name="*", group="Recipe")]
"""Single fields of a recipe that a checkpoint tells."""
OWN: Mapping[str, Any] = {
    "data": Data,
    "trust_backbone": Trust,
    "idle_s": Annotated[float, Parameter(name=["--idle-s", "--idle"])],
    "deadline_s": Annotated[float, Parameter(name=["--deadline-s", "--deadline"])],
}
"""The same by name, where the option is more than the argument."""
DEFAULTS: Mapping[Any, Any] = {
    Assignments: (),
    KINDS["Recipe | None"]: Recipe(),
    RecipeChanges: Changes(),
    Workers: Workers(),
}
"""Where the command's default is another one."""
OF_COMMAND = frozenset({"recipe_file", "output"})
"""Options that the program reads, and no command."""


def options_of(
    function: Callable[..., Any], *, but: Collection[str] = (), **more: Any
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Give a command the arguments of a function as options, and its docstring as help.

    The command gets those that were given as keyword arguments. Beside them it has `--recipe` and
    the options of its output. It runs with the `workers` that were asked for, if it has any.

    Args:
        function: with annotations that `KINDS` knows.
        but: arguments that are no options.
        more: further options of the command by name, with their annotation; None unless given,
            or in `DEFAULTS`.
    """
    parameters = [
        _option(one)
        for one in inspect.signature(function).parameters.values()
        if one.name not in but and one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters += [
        inspect.Parameter(name, keyword, default=DEFAULTS.get(kind), annotation=kind)
        for name, kind in {**more, "recipe_file": RecipeFile}.items()
    ]
    output = inspect.Parameter("output", keyword, default=Output(), annotation=Output)
    signature = inspect.Signature([*parameters, output], return_annotation=Answer)

    def decorate(command: Callable[..., Answer]) -> Callable[..., Answer]:
        def run(*named: Any, **options: Any) -> Answer:
            given = {name: value for name, value in options.items() if name not in OF_COMMAND}
            if "set" in given:
                given["set"] = overrides_of(given["set"]) or None
            workers = given.pop("workers", Workers())
            with workers.begun():
                return command(*named, **given)

        described: Any = run
        described.__name__, described.__module__ = command.__name__, command.__module__
        described.__doc__ = re.sub(r"\n {8}", " ", inspect.getdoc(function) or "")
        described.__signature__ = signature
        described.__annotations__ = {
            name: one.annotation for name, one in signature.parameters.items()
        }
        described.__annotations__["return"] = Answer
        return run

    return decorate


def _option(argument: inspect.Parameter) -> inspect.Parameter:
    kind = OWN.get(argument.name) or KINDS[argument.annotation]
    if kind is bool and argument.default is False:
        kind = Annotated[bool, Parameter(negative=())]
    positional = argument.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    return argument.replace(
        annotation=kind,
        default=DEFAULTS.get(kind, argument.default),
        kind=inspect.Parameter.POSITIONAL_ONLY if positional else argument.kind,
    )
