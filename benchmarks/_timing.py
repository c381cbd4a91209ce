"""How long something takes on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def least_cpu_s(run: Callable[[], Any], times: int) -> float:
    """The least CPU time of `times` runs, in seconds, after one that is not counted."""
    run()
    spent = []
    for _ in range(times):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent)
