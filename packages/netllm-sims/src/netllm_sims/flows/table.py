"""Flows: what their first packets and their headers show, and which class they belong to."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from netllm_sims.flows.limits import LARGEST_GAP_MS, LARGEST_SIZE_BYTES, MOST_PACKETS


@dataclass(frozen=True, eq=False, kw_only=True)
class Flows:
    """A table of flows, a row each.

    A flow is the packets of both directions that share protocol, addresses and ports, without a
    pause as long as an idle timeout. Who sends its first packet is the client, also called host.

    Raises:
        ValueError: Columns of different lengths, or values outside their ranges.
    """

    host: Shaped[ndarray, "flow"]
    """Name of the client, text."""
    day: Shaped[ndarray, "flow"]
    """When it began, text that sorts by time, as `2026-03-01`."""
    label: Shaped[ndarray, "flow"]
    """Name of its class, text."""
    protocol: Int[ndarray, "flow"]
    """Protocol number of IP: 6 is TCP, 17 UDP."""
    server_port: Int[ndarray, "flow"]
    """Port of the server; 0 where the protocol has none."""
    sizes_bytes: Float[ndarray, "flow packet"]
    """Size of each of the first packets as IP counts it, negative from the server; 0 where there
    are no more packets."""
    gaps_ms: Float[ndarray, "flow packet"]
    """Time since the packet before; 0 of the first one."""
    statistics: Float[ndarray, "flow statistic"]
    """What else is known of a flow, such as the columns of a published CSV."""
    statistic_names: tuple[str, ...] = ()
    """Names of these."""

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)[:-1]}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"All columns of `Flows` must be of one length, got {lengths}.")
        if self.sizes_bytes.shape != self.gaps_ms.shape:
            raise ValueError(
                "`sizes_bytes` and `gaps_ms` must be of one shape, got "
                f"{self.sizes_bytes.shape} and {self.gaps_ms.shape}."
            )
        if self.statistics.shape[1] != len(self.statistic_names):
            raise ValueError(
                f"`statistics` must have a column for each of `statistic_names`, got "
                f"{self.statistics.shape[1]} and {len(self.statistic_names)}."
            )
        _check_range("sizes_bytes", self.sizes_bytes, -LARGEST_SIZE_BYTES, LARGEST_SIZE_BYTES)
        _check_range("gaps_ms", self.gaps_ms, 0, LARGEST_GAP_MS)
        _check_range("protocol", self.protocol, 0, 255)
        _check_range("server_port", self.server_port, 0, 65_535)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: Any) -> "Flows":
        """Some of the flows: a slice, numbers or a mask."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self)[:-1]}
        return replace(self, **columns)

    def of_packets(self, count: int) -> "Flows":
        """The same flows with so many packets: later ones are cut off, missing ones are 0."""
        if not 1 <= count <= MOST_PACKETS:
            raise ValueError(f"`count` must lie in [1, {MOST_PACKETS}], got {count}.")
        shape = (len(self), count)
        return replace(
            self,
            sizes_bytes=_fitted(self.sizes_bytes, shape),
            gaps_ms=_fitted(self.gaps_ms, shape),
        )

    def observation(self) -> dict[str, ndarray]:
        """What a policy is shown of each flow: see `rollout.Policy`."""
        return {
            "sizes_bytes": self.sizes_bytes,
            "gaps_ms": self.gaps_ms,
            "protocol": self.protocol,
            "server_port": self.server_port,
        } | ({"statistics": self.statistics} if self.statistic_names else {})

    def digests(self) -> list[str]:
        """Of each flow the SHA-256 of all that is known of it, but for its host, day and class."""
        parts = [np.ascontiguousarray(one, np.float64) for one in self.observation().values()]
        if not len(self):
            return []
        rows = np.concatenate([one.reshape(len(self), -1) for one in parts], axis=1)
        return [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]


def joined(tables: Sequence[Flows]) -> Flows:
    """All flows of some tables, one table after the other, of as many packets as the longest has.

    Raises:
        ValueError: There is no table, or they have different statistics.
    """
    if not tables:
        raise ValueError("`tables` must hold at least one table of flows, got none.")
    first = tables[0]
    if other := [one for one in tables if one.statistic_names != first.statistic_names]:
        raise ValueError(
            "All tables must have the same statistics, got "
            f"{', '.join(first.statistic_names) or 'none'} and "
            f"{', '.join(other[0].statistic_names) or 'none'}."
        )
    packets = max(one.sizes_bytes.shape[1] for one in tables)
    tables = [one.of_packets(packets) for one in tables]
    names = [f.name for f in fields(first)[:-1]]
    columns: Any = {n: np.concatenate([getattr(one, n) for one in tables]) for n in names}
    return replace(first, **columns)


def padded(rows: Sequence[Sequence[float]], count: int) -> Float[ndarray, "flow packet"]:
    """Rows of different lengths as a table of so many columns, with zeros at their ends."""
    table = np.zeros((len(rows), count))
    for row, values in zip(table, rows, strict=True):
        some = values[:count]
        row[: len(some)] = some
    return table


def _fitted(values: ndarray, shape: tuple[int, int]) -> ndarray:
    table = np.zeros(shape)
    width = min(shape[1], values.shape[1])
    table[:, :width] = values[:, :width]
    return table


def _check_range(name: str, values: ndarray, least: float, most: float) -> None:
    wrong = np.argwhere(~((values >= least) & (values <= most)))
    if len(wrong):
        raise ValueError(
            f"`{name}` must lie in [{least:,}, {most:,}], got {values[tuple(wrong[0])]} in row "
            f"{wrong[0][0]}."
        )
