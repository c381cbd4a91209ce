"""`netllm data fetch` and `netllm data check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from netllm.commands.options import Data, Output
from netllm.commands.printed_answer import Answer
from netllm.data.download import SOURCES, Finding, cache_folder
from netllm.data.download import check as check_files
from netllm.data.download import fetch as fetch_files


def fetch(*task: str, data: Data = None, output: Output = Output()) -> Answer:
    """Download the public data that is missing, and verify it.

    Args:
        task: Only the data of these tasks.
        data: Folder to fill; a folder of the user's cache unless given.
    """
    folder = data or cache_folder()
    findings = fetch_files(folder, task)
    lines = list(_lines(folder, findings))
    if any(one.state == "good" for one in findings):
        lines.append(f"Use it with --data {folder} or NETLLM_DATA={folder}.")
    failed = any(one.state == "differs" for one in findings)
    return Answer(_document(folder, findings), "\n".join(lines), code=int(failed))


def check(*task: str, data: Data = None, output: Output = Output()) -> Answer:
    """Verify a folder of data file by file; exit code 1 if something is missing or differs.

    Args:
        task: Only the data of these tasks.
        data: Folder to check; a folder of the user's cache unless given.
    """
    folder = data or cache_folder()
    findings = check_files(folder, task)
    failed = any(one.state != "good" for one in findings)
    text = "\n".join(_lines(folder, findings))
    return Answer(_document(folder, findings), text, code=int(failed))


def _document(folder: Path, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "folder": folder,
        "sources": [asdict(one) for one in SOURCES],
        "files": [asdict(one) for one in findings],
    }


def _lines(folder: Path, findings: Sequence[Finding]) -> Iterator[str]:
    yield f"{folder}:"
    for one in SOURCES:
        some = [finding for finding in findings if finding.path.startswith(one.prefix)]
        if not some:
            continue
        counts = Counter(finding.state for finding in some)
        states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
        yield f"  {one.prefix}  {states}: {one.title}\n    licence: {one.licence}"
        for finding in some:
            if finding.state == "differs":
                yield f"    differs from its registered sha256: {finding.path}"
        missing = [f for f in some if f.state == "missing" and f.address is None]
        for finding in missing:
            if finding.made_from:
                yield (
                    f"    made by `netllm data fetch` once {finding.made_from} is whole and "
                    f"unchanged: {finding.path}"
                )
        converted = [finding.path for finding in missing if not finding.made_from]
        if converted:
            yield f"    converted files, in no public source: {', '.join(converted)}"
