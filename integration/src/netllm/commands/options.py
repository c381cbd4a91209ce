"""Options that several commands share."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Names = Annotated[
    tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
]
"""`--policy a b c`, and `--policy a --policy b` alike."""
Seeds = Annotated[
    tuple[int, ...],
    Parameter(name=["--seeds", "--seed"], consume_multiple=True, negative=(), show_default=False),
]
"""`--seeds 1 2 3`; a single one reads better as `--seed 1`."""
Assignments = Annotated[
    tuple[str, ...], Parameter(name="--set", consume_multiple=True, negative=(), show_default=False)
]
"""`--set FIELD=VALUE`."""
Data = Annotated[Path | None, Parameter(env_var="NETLLM_DATA", show_env_var=True)]
"""Folder of real data."""


def overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Fields and values of `FIELD=VALUE` texts.

    A value is read as TOML (`0.08`, `true`, `[300, 750]`, `"text"`), `300,750` as a list too, and
    anything else as text.

    Raises:
        ValueError: for a text without `=`, or a field that is set twice.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise ValueError(f"--set needs FIELD=VALUE, such as latency_s=0.1; got {assignment!r}.")
        if name in found:
            raise ValueError(f"--set {name} was given twice.")
        found[name] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    for candidate in (text, f"[{text}]"):
        try:
            return tomllib.loads(f"value = {candidate}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text
