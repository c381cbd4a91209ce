"""What rivals make of an observation: packets, headers and statistics of flows as numbers."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.flows import Flows
from numpy import ndarray


def numbers_of_classes(flows: Flows, classes: Sequence[str]) -> Int[ndarray, "flow"]:
    """The number of each flow's class; all must be among `classes`, which are sorted."""
    return np.searchsorted(np.array(classes), flows.label)


def features(observation: Mapping[str, ndarray]) -> Float[ndarray, "flow feature"]:
    """Logarithms of the packets' sizes (with the sign of their direction) and gaps, and statistics.

    Statistics are the usual ones: numbers of packets, bytes, and mean, deviation, least and largest
    of the sizes of both directions and of the gaps, in the manner of CICFlowMeter.
    """
    sizes, gaps = observation["sizes_bytes"], observation["gaps_ms"]
    columns = [
        sizes,
        gaps,
        observation["protocol"][:, None],
        observation["server_port"][:, None],
        *_statistics(sizes, sizes > 0),
        *_statistics(-sizes, sizes < 0),
        *_statistics(gaps, np.cumsum(sizes != 0, axis=1) * (sizes != 0) > 1),
    ]
    if "statistics" in observation:
        columns.append(observation["statistics"])
    table = np.concatenate(columns, axis=1)
    logarithms: Float[ndarray, "flow feature"] = np.sign(table) * np.log1p(np.abs(table))
    return logarithms


def _statistics(values: ndarray, which: ndarray) -> Iterator[ndarray]:
    """Count, sum, mean, deviation, least and largest of some values of each row, 0 of none."""
    count = which.sum(axis=1, keepdims=True)
    some = np.maximum(count, 1)
    total = np.where(which, values, 0).sum(axis=1, keepdims=True)
    mean = total / some
    yield count
    yield total
    yield mean
    yield np.sqrt((np.where(which, values - mean, 0) ** 2).sum(axis=1, keepdims=True) / some)
    least = np.where(which, values, np.inf).min(axis=1, keepdims=True)
    yield np.where(count > 0, least, 0)
    yield np.where(which, values, 0).max(axis=1, keepdims=True)
