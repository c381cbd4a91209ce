"""Where the published sessions start in their traces: a list beside the folder of traces.

`netllm data fetch` makes these lists. One is the public repository's pickle, converted. The others
are no files there: its environment draws them anew from a fixed seed whenever a folder of traces
has no pickle.
"""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from netllm_sims.abr.traces import Trace, load_trace
from netllm_sims.files import pickled_numbers
from netllm_sims.files.json_reading import decode_json

SEED = 998244353
"""Seed of the drawn lists (NetLLM's `baseline_special/env.py`)."""
LARGEST_PICKLE = 65_536
"""Bytes; 100 numbers take less than 10,000."""
CONVERTED = (
    "start pointer (1-based index into cooked_bw; env starts at cooked_time[ptr-1]) per trace, in "
    "sorted file-name order; converted from mahimahi_ptrs.pkl"
)
DRAWN = (
    "NOT a file of the reference: start pointers Environment generates itself for fixed=True with "
    "np.random.seed(998244353); randint(1,len) per trace in sorted file-name order, all traces"
)
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


def drawn(folder: Path, names: Sequence[str]) -> bytes:
    """The list that is drawn: for each trace in order of name one of its points, but the last.

    Args:
        folder: of the traces.
        names: theirs, all that the published folder has.
    """
    random = np.random.RandomState(SEED)
    ordered = sorted(names)
    pointers = [int(random.randint(1, len(load_trace(folder / name).time_s))) for name in ordered]
    return _listed(pointers, ordered, DRAWN)


def converted(pickled: bytes, names: Sequence[str]) -> bytes:
    """The list that a pickle holds, which is read without running anything of it.

    Args:
        pickled: a list of whole numbers.
        names: of the traces that it is about.

    Raises:
        ValueError: if it holds anything else.
    """
    return _listed(numbers(pickled), sorted(names), CONVERTED)


def numbers(pickled: bytes) -> list[int]:
    """The whole numbers of a pickled list, tuple or array; no code in it is run.

    Raises:
        ValueError: if it holds anything else.
    """
    must = "A pickle of start pointers must"
    if len(pickled) > LARGEST_PICKLE:
        raise ValueError(f"{must} be small, got {len(pickled)} bytes.")
    try:
        found = pickled_numbers.load(BytesIO(pickled))
    except Exception as error:  # damaged pickles raise errors of any kind
        raise ValueError(f"{must} hold whole numbers only: {error}.") from error
    # An array may claim to be larger than what it was read from.
    if isinstance(found, np.ndarray) and found.dtype.kind in "iu" and found.nbytes <= len(pickled):
        found = [*found]
    if not isinstance(found, list | tuple):
        raise ValueError(f"{must} hold a list, got a {type(found).__name__}.")
    for one in found:
        if type(one) is not int and not isinstance(one, np.integer):
            raise ValueError(f"{must} hold whole numbers only, got {one!r:.40}.")
    return [int(one) for one in found]


def _listed(pointers: Sequence[int], names: Sequence[str], description: str) -> bytes:
    document = {"description": description, "ptrs": pointers, "files": names}
    return json.dumps(document, indent=0).encode()
