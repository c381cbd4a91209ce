"""What the settings of every task read alike: names, numbers, the folder of real data."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """Error text for a name that is not there, with the nearest ones that are."""
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    some = ", ".join(known[:30]) + (f" and {len(known) - 30} more" if len(known) > 30 else "")
    return f"Unknown {kind} {name!r}. {hint}Known: {some}."


def number(field: str, value: object) -> float:
    """The number, also from text."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{field}` must be a number, got {value!r}.") from None


def whole(field: str, value: object) -> int:
    """The whole number, also from text."""
    result = number(field, value)
    if not result.is_integer() or abs(result) >= 2**53:
        raise ValueError(f"`{field}` must be a whole number, got {value!r}.")
    return int(result)


def natural(field: str, value: object) -> int:
    """The whole number >= 0, also from text."""
    result = whole(field, value)
    if result < 0:
        raise ValueError(f"`{field}` must be a whole number >= 0, got {value!r}.")
    return result


def yes_or_no(field: str, value: object) -> bool:
    """The choice, also from text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError(f"`{field}` must be true or false, got {value!r}.")


def word(field: str, value: object) -> str:
    """The text, also of a path; a number is the name that it spells, as in `traces=2024`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path):
        raise ValueError(f"`{field}` must be a single text, got {value!r}.")
    return str(value)


def items(field: str, value: object) -> list[object]:
    """The values of a list; of text with commas between them; a number is a list of one."""
    if isinstance(value, str):
        return list(value.split(","))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return list(value)
    raise ValueError(f"`{field}` must be one or more values with commas between, got {value!r}.")


def named_path(field: str, value: object) -> Path:
    """The path; an empty text, which would be the working directory, names none."""
    text = word(field, value)
    if not text.strip():
        raise ValueError(
            f"`{field}` must be a path, got {value!r}. Write `.` for the working directory, or "
            "leave the field out. Is a variable of the shell not set?"
        )
    return Path(text).expanduser()


def existing(field: str, value: object, what: str = "folder or file") -> Path:
    """The path of what must be there."""
    path = named_path(field, value).resolve()
    if not os.path.exists(path):  # Path.exists raises where a name is too long
        raise FileNotFoundError(
            f"{path}: there is no such {what} (`{field}`). Correct the path; a relative one begins "
            "in the working directory."
        )
    return path


def data_root(
    name: str, data: str | Path | None, *, holds: Callable[[Path], bool], needed: str
) -> Path | None:
    """The folder of real data that the setting `name` reads; None: it is to be generated.

    Args:
        name: The setting's; `synthetic` reads none, `default` is generated where none is named.
        data: The folder; by default the environment variable NETLLM_DATA.
        holds: Whether a folder holds what the task needs.
        needed: What that is, for the message.

    Raises:
        FileNotFoundError: The data is needed but not there.
    """
    if name == "synthetic":
        return None
    given = data if data is not None else os.environ.get("NETLLM_DATA") or None
    if given is None:
        if name == "default":
            return None
        raise FileNotFoundError(
            f"Setting `{name}` needs the real data. Name its folder by --data DIR or NETLLM_DATA, "
            "or use `synthetic`."
        )
    root = named_path("data", given).resolve()
    if not holds(root):
        source = "--data" if data is not None else "NETLLM_DATA"
        raise FileNotFoundError(
            f"{root}: the data folder must hold {needed}, got none ({source}). "
            "Correct the path, or use `synthetic`."
        )
    return root


def check_names(
    name: str, overrides: Iterable[str], *, names: Sequence[str], fields: Sequence[str]
) -> None:
    """Raise ValueError unless there is such a setting, and it has all the fields.

    Args:
        name: The setting's.
        overrides: Names of the fields to change.
        names: Of all settings.
        fields: Names of the fields that can be changed.
    """
    if name not in names:
        raise ValueError(unknown("setting", name, names))
    for field in overrides:
        if field not in fields:
            raise ValueError(unknown("field", field, fields))


def setting_of(
    setting: str | Kind,
    data: str | Path | None,
    overrides: Mapping[str, Any],
    *,
    named: Callable[..., Kind],
) -> Kind:
    """The setting that an environment's arguments name, or are.

    Args:
        setting: A name, or a setting that is ready.
        data: Folder of the real data.
        overrides: Fields to change.
        named: The task's function that builds a setting by name.

    Raises:
        ValueError: Changes to a setting that is ready.
    """
    if isinstance(setting, str):
        return named(setting, data=data, **overrides)
    if data is not None or overrides:
        task = named.__module__.rpartition(".")[0]
        raise ValueError(
            "`data` and overrides need a setting's name, got a Setting. Override when building it: "
            f"{task}.setting(name, data=…, FIELD=…)."
        )
    return setting
