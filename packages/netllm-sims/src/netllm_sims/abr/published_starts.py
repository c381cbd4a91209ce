"""Where the published sessions start in their traces: a list beside the folder of traces."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from netllm_sims.abr.traces import Trace
from netllm_sims.files.json_reading import decode_json

_RESTORE = "Restore the published file: `netllm data fetch abr` makes it."


class Listed(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds."""

    ptrs: list[int]
    """For each trace the number, from 1, of the point at which its session starts."""
    files: list[str]
    """The traces' names, sorted."""
    description: str = ""
    """Where the list comes from."""


def read_starts(file: Path, traces: Sequence[Trace]) -> list[float]:
    """Seconds into each trace at which its session starts.

    Args:
        file: The list, as `netllm data fetch` makes it.
        traces: In order of their names.

    Raises:
        ValueError: Another file, one about other traces, or a pointer that is none of the trace's
            points but the last.
        FileNotFoundError: There is no such file.
    """
    listed = decode_json(file, Listed)
    if len(listed.ptrs) != len(traces):
        raise ValueError(
            f"{file}: there must be one start pointer per trace, got {len(listed.ptrs)} for "
            f"{len(traces)} traces. {_RESTORE}"
        )
    names = [trace.id for trace in traces]
    if listed.files != names:
        other = {*names} ^ {*listed.files}
        hint = f"the difference is {min(other)[:80]!r}" if other else "their order differs"
        raise ValueError(
            f"{file}: `files` must list the {len(names)} traces of the folder beside it in order "
            f"of their names, but {hint}. {_RESTORE}"
        )
    return [_start_s(file, *pair) for pair in zip(traces, listed.ptrs, strict=True)]


def _start_s(file: Path, trace: Trace, pointer: int) -> float:
    points = len(trace.time_s)
    if not 1 <= pointer < points or not trace.time_s[pointer - 1] < trace.period_s:
        raise ValueError(
            f"{file}: the start pointer of {trace.id} must be one of its {points} points, counted "
            f"from 1, that lies before its end, got {pointer}. {_RESTORE}"
        )
    return float(trace.time_s[pointer - 1])
