"""`netllm pool info` and `netllm pool export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from netllm_adapt import Pool


def info(
    path: Path, /, *, json_: Annotated[bool, Parameter(name="--json", negative=())] = False
) -> int:
    """What is in a pool: episodes, policies, returns, fields, provenance.

    Args:
        path: Folder of the pool.
        json_: Print one JSON document instead.
    """
    from netllm_adapt import Pool

    pool = Pool(path)
    if json_:
        print(json.dumps({**pool.info(), "provenance": pool.provenance}, indent=1))
    else:
        show_info(pool)
    return 0


def export(path: Path, out: Path, /) -> int:
    """Write a pool as one file: .parquet and .jsonl by episode, .csv by decision.

    Args:
        path: Folder of the pool.
        out: The file to write.
    """
    from netllm_adapt import Pool

    from netllm.pools import export as write

    print(write(Pool(path), out))
    return 0


def show_info(pool: Pool) -> None:
    """Print what a pool says of itself."""
    about = pool.info()
    returns = about["return_percentiles"]
    print(
        f"{pool.path}: {about['episodes']:,} episodes, {about['steps']:,} decisions of "
        f"{about['task']} in {', '.join(map(str, about['settings']))}, "
        f"{about['bytes'] / 1e6:.1f} MB in {about['shards']} shards"
    )
    for name, some in about["policies"].items():
        print(f"  {name}: {some['episodes']:,} episodes, {some['reward_mean']:.3f} per decision")
    print(f"  return: {', '.join(f'{value:.1f} at {level} %' for level, value in returns.items())}")
    print(f"  labels: {'a second policy' if about['labels'] else 'the actions themselves'}")
    for collection in pool.provenance.get("collections", []):
        facts = {key: value for key, value in collection.items() if key != "packages"}
        print(f"  collected: {', '.join(f'{key}={value}' for key, value in facts.items())}")
