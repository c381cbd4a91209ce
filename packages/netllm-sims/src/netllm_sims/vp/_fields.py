"""Values of a setting's fields, from text or Python."""

import os
from collections.abc import Iterable
from pathlib import Path

from netllm_sims.vp.parts import published_root


def number(field: str, value: object) -> float:
    """The number, also from text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"`{field}` must be a number, got {value!r}.") from None


def whole(field: str, value: object) -> int:
    """The whole number, also from text."""
    result = number(field, value)
    if not result.is_integer():
        raise ValueError(f"`{field}` must be a whole number, got {value!r}.")
    return int(result)


def names(field: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """Names without folders; as text with commas between them."""
    given = value.split(",") if isinstance(value, str) else list(value)
    if not given or not all(isinstance(name, str) and name.strip() for name in given):
        raise ValueError(f"`{field}` must be one or more names, got {value!r}.")
    return tuple(name.strip().split("/")[-1] for name in given)


def angles(field: str, value: str | Iterable[object]) -> tuple[float, ...]:
    """Numbers; as text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    return tuple(number(field, one) for one in given)


def existing(field: str, value: str | Path) -> Path:
    """The folder or file, which must be there."""
    path = Path(value).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such folder or file (`{field}`).")
    return path


def data_root(name: str, data: str | Path | None, dataset: str) -> Path | None:
    """The folder of real data that the setting `name` reads; None: it is to be generated.

    Raises:
        FileNotFoundError: The data set is needed but not there.
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
    root = Path(given).expanduser().resolve()
    if published_root(root, dataset) is None:
        source = "--data" if data is not None else "NETLLM_DATA"
        raise FileNotFoundError(
            f"{root}: the data folder must hold vp/{dataset}.zip or a folder vp/{dataset}, got "
            f"none ({source}). Correct the path, or use `synthetic`."
        )
    return root
