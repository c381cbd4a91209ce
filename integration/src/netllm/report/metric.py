"""What is measured per episode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What is measured per episode."""

    key: str
    """Its name in results, unit included where it has one."""
    label: str
    """What tables and axes call it."""
    higher_is_better: bool = True
    share: bool = False
    """Whether it lies between 0 and 1; its interval is then cut to that."""
    group: str = ""
    """What a table of its own is called that has it, beside others of the group; "" for the first
    table."""
