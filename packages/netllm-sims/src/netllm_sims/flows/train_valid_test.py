"""Training, validation and test parts: by flow, host or day, never by packet.

All of these splits share one training part: hosts and days that test or validate are kept out of
it. So a model that was trained once can be tested by each of them, and has seen neither these
hosts nor these days.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from netllm_sims.flows.table import Flows
from netllm_sims.own_data import PARTS, divided

SPLITS = ("flow", "host", "day", "none")
"""What is divided: flows of hosts and days that train; hosts; days; nothing."""


def rows_of(
    flows: Flows, part: str, split: str, *, unknown: Sequence[str] = ()
) -> Bool[ndarray, "flow"]:
    """Which of all flows belong to a part.

    A fifth of the hosts tests, another fifth validates; so of the days, the last of which test. Of
    fewer than three nothing is taken from training. By `flow`, a fifth of the remaining flows
    each; equal flows stay together.

    Args:
        flows: All of them.
        part: `train`, `valid` or `test`.
        split: One of `SPLITS`.
        unknown: Classes that neither train nor validate; they divide nothing.

    Raises:
        ValueError: There are fewer than three hosts or days to divide.
    """
    if split == "none":
        return np.ones(len(flows), dtype=bool)
    hosts = _membership(flows.host, _mixed, least=split == "host", what="hosts")
    days = _membership(flows.day, _latest_first, least=split == "day", what="days")
    here = (hosts == "train") & (days == "train")
    strange = np.isin(flows.label, unknown)
    chosen = np.flatnonzero(here & ~strange)
    own = np.where(here & strange, "test", "").astype("<U5")
    digests = np.array(flows[chosen].digests(), dtype=str)
    own[chosen] = _membership(digests, sorted, least=split == "flow", what="flows")
    if part == "train":
        return own == "train"
    if split == "flow":
        return own == part
    if split == "host":
        return (hosts == part) & (days == "train")
    return (hosts == "train") & (days == part)


def _membership(
    names: ndarray, order: Callable[[Iterable[str]], list[str]], *, least: bool, what: str
) -> ndarray:
    """The part of each name: its own, or `train` where there are too few to divide."""
    different = sorted({*names.tolist()})
    parts = divided(order(different))
    if not parts["train"]:
        if least:
            raise ValueError(
                f"to be divided by {what.removesuffix('s')} there must be at least three {what}, "
                f"got {len(different)}. Add some, or choose another `split`: "
                f"{', '.join(SPLITS)}."
            )
        return np.full(len(names), "train")
    of = {name: part for part in PARTS for name in parts[part]}
    return np.array([of[name] for name in names.tolist()], dtype="<U5")


def _mixed(names: Iterable[str]) -> list[str]:
    """In an order that does not follow the names."""
    from hashlib import sha256

    return sorted(names, key=lambda name: sha256(name.encode()).hexdigest())


def _latest_first(names: Iterable[str]) -> list[str]:
    return sorted(names, reverse=True)
