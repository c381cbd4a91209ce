"""`netllm data fetch` and `netllm data check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from netllm.commands.options import Data
from netllm.data import SOURCES, Finding, source
from netllm.data import check as check_files
from netllm.data import fetch as fetch_files


def fetch(*task: str, data: Data = None) -> int:
    """Download the public data that is missing, and verify it.

    Args:
        task: Only the data of these tasks.
        data: Folder to fill; a folder of the user's cache unless given.
    """
    folder = data or _cache()
    findings = fetch_files(folder, task)
    _show(folder, findings)
    if any(one.state == "good" for one in findings):
        print(f"Use it with --data {folder} or NETLLM_DATA={folder}.")
    return 1 if any(one.state == "differs" for one in findings) else 0


def check(*task: str, data: Data = None) -> int:
    """Verify a folder of data file by file; exit code 1 if something is missing or differs.

    Args:
        task: Only the data of these tasks.
        data: Folder to check; a folder of the user's cache unless given.
    """
    folder = data or _cache()
    findings = check_files(folder, task)
    _show(folder, findings)
    return 0 if all(one.state == "good" for one in findings) else 1


def _cache() -> Path:
    import pooch  # type: ignore[import-untyped]

    return Path(pooch.os_cache("netllm")) / "data"


def _show(folder: Path, findings: Sequence[Finding]) -> None:
    print(f"{folder}:")
    for one in SOURCES:
        some = [finding for finding in findings if source(finding.path) == one]
        if not some:
            continue
        counts = Counter(finding.state for finding in some)
        states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
        print(f"  {one.prefix}  {states}: {one.title}\n    licence: {one.licence}")
        for finding in some:
            if finding.state == "differs":
                print(f"    differs from its registered sha256: {finding.path}")
        missing = [f for f in some if f.state == "missing" and f.address is None]
        for finding in missing:
            if finding.made_from:
                print(
                    f"    made by `netllm data fetch` once {finding.made_from} is whole and "
                    f"unchanged: {finding.path}"
                )
        converted = [finding.path for finding in missing if not finding.made_from]
        if converted:
            print(f"    converted files, in no public source: {', '.join(converted)}")
