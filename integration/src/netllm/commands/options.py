"""Options that several commands share."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

_SEVERAL = Parameter(consume_multiple=True, negative=(), show_default=False)

Names = Annotated[tuple[str, ...], _SEVERAL]
"""`--policy a b c`, and `--policy a --policy b` alike."""
Numbers = Annotated[tuple[float, ...], _SEVERAL]
"""`--when-unsure 0.7 0.9`."""
Seeds = Annotated[tuple[int, ...], _SEVERAL, Parameter(name=["--seeds", "--seed"])]
"""`--seeds 1 2 3`; a single one reads better as `--seed 1`."""
Assignments = Annotated[
    tuple[str, ...],
    _SEVERAL,
    Parameter(name="--set", help="Override a field of the setting: FIELD=VALUE."),
]
"""`--set FIELD=VALUE`."""
Trust = Annotated[bool, Parameter(name="--trust-backbone", negative=())]
"""`--trust-backbone`: a checkpoint's backbone may be one of a folder or a hub."""
Data = Annotated[
    Path | None, Parameter(env_var="NETLLM_DATA", show_env_var=True, help="Folder of real data.")
]
"""Folder of real data."""
RecipeFile = Annotated[
    Path | None,
    Parameter(name="--recipe", help="A TOML file with these options; flags override it."),
]
"""`--recipe FILE.toml`: options in a file, which flags override."""


@Parameter(name="*", group="Output")
@dataclass(frozen=True)
class Output:
    """What every command prints, and where."""

    json: Annotated[bool, Parameter(negative=())] = False
    """Print one JSON document and nothing else to standard output."""
    quiet: Annotated[bool, Parameter(negative=())] = False
    """Nothing on standard error but errors: no progress, no warnings."""
    verbose: Annotated[bool, Parameter(negative=())] = False
    """Also what is merely good to know, on standard error."""

    def __post_init__(self) -> None:
        """Check that it is one way or the other.

        Raises:
            ValueError: if it is to be both quiet and verbose.
        """
        if self.quiet and self.verbose:
            raise ValueError("A command is --quiet or --verbose, not both. Leave one out.")


@Parameter(name="*", group="Workers")
@dataclass(frozen=True)
class Workers:
    """Where the pieces of work of `--jobs` are done."""

    backend: Literal["loky", "ray"] = "loky"
    """Processes of this machine, or workers of Ray (extra `ray`)."""
    address: str | None = None
    """Of a running Ray cluster: host:port, ray://host:port or auto; one on this machine unless
    given."""

    def __post_init__(self) -> None:
        """Check that an address is Ray's.

        Raises:
            ValueError: if it is given without Ray.
        """
        if self.address is not None and self.backend != "ray":
            raise ValueError("`--address` is of a cluster of Ray. Add --backend ray.")

    def begun(self) -> AbstractContextManager[None]:
        """A block whose work they do."""
        from netllm.verbs.ray_workers import on_ray

        return on_ray(self.address) if self.backend == "ray" else nullcontext()


def overrides(
    assignments: Sequence[str], *, fixed: Sequence[str] = ("name", "data"), option: str = "--set"
) -> dict[str, Any]:
    """Fields and values of `FIELD=VALUE` texts.

    A value is read as TOML (`0.08`, `true`, `[300, 750]`, `"text"`), `300,750` as a list too, and
    anything else as text, dates too.

    Args:
        assignments: the texts.
        fixed: fields that are given in another way.
        option: where the texts were given.

    Raises:
        ValueError: for a text without `=`, or a field that is set twice or in another way.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise ValueError(f"{option} needs FIELD=VALUE, got {assignment!r}.")
        if name in found:
            raise ValueError(f"{option} {name} was given twice.")
        if name in fixed:
            raise ValueError(f"`{name}` cannot be set here: an option of its own gives it.")
        found[name] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    if not text.strip():
        return text
    for candidate in (text, f"[{text}]"):
        try:
            value = tomllib.loads(f"value = {candidate}")["value"]
        except tomllib.TOMLDecodeError:
            continue
        return text if isinstance(value, date | time) else value
    return text
