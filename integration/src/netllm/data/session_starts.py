"""Where the published ABR sessions start in their traces: lists that `netllm data fetch` makes.

One is the public repository's pickle, converted. The others are no files there: its environment
draws them anew from a fixed seed whenever a folder of traces has no pickle.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

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


def drawn(folder: Path, names: Sequence[str]) -> bytes:
    """The list that is drawn: for each trace in order of name one of its points, but the last.

    Args:
        folder: of the traces.
        names: theirs, all that the published folder has.
    """
    import numpy as np
    from netllm_sims.abr import load_trace

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
    import numpy as np
    from netllm_sims.files import pickled_numbers

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
