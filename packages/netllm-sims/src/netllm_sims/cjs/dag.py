"""Jobs as directed acyclic graphs of stages, on flat arrays."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

LEVELS = (5, 10, 20, 40, 50, 60, 80, 100)
"""Numbers of executors at a job for which task durations are known; between them one is drawn."""

MOST_TASKS = 2**31 - 1
"""Of a stage: the simulator counts them in 32 bits."""

FRESH, REST, FIRST = 0, 1, 2
"""How an executor comes to a task: idle before, from the same stage, from another stage."""

Lists = Mapping[int, Sequence[float]]


class Cycle(ValueError):
    """Stages that wait for one another; who knows what they are called tells it by name."""

    def __init__(self, message: str, stages: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.stages = stages


@dataclass(frozen=True, eq=False, kw_only=True)
class Waves:
    """Task durations of one stage in ms, by the number of executors that its job had."""

    tasks: int
    """Number of tasks."""
    fresh: Lists
    """Durations on an executor that was idle or came from elsewhere; may be empty."""
    first: Lists
    """First durations on an executor of the job; its keys are the known numbers of executors."""
    rest: Lists
    """Later durations in the same stage; may be empty."""

    @classmethod
    def same(cls, tasks: int, durations_ms: Sequence[float]) -> "Waves":
        """Durations that depend neither on the wave nor on the number of executors."""
        return cls(tasks=tasks, fresh={}, first={LEVELS[-1]: durations_ms}, rest={})


@dataclass(frozen=True, eq=False, kw_only=True)
class Dag:
    """The stages of a job, their dependencies and the durations of their tasks; see `build`.

    Raises:
        ValueError: No stage, a stage with no task, with more than `MOST_TASKS`, or with durations
            that are negative or not finite, an edge to nowhere, or a cycle.
    """

    name: str
    """Name of the profile."""
    tasks: Int[ndarray, "stage"]
    """Tasks of each stage."""
    edges: Int[ndarray, "edge 2"]
    """Pairs (parent, child) of stages."""
    rough_ms: Float[ndarray, "stage"]
    """Mean over all known durations of a stage: its most recent duration before any is seen."""
    durations_ms: Float[ndarray, "duration"]
    """The lists of durations under one another."""
    cells: Int[ndarray, "stage 3 8 3"]
    """By stage, wave and level: where the list starts, how long it is, 1 if warm-up is added."""

    def __post_init__(self) -> None:
        if not len(self.tasks):
            raise ValueError(f"`{self.name}` must have at least one stage, got none.")
        for stage in np.flatnonzero((self.tasks < 1) | (self.tasks > MOST_TASKS)).tolist():
            raise ValueError(
                f"Stage {stage} of `{self.name}` must have at least one task, and at most "
                f"{MOST_TASKS}, got {self.tasks[stage]}."
            )
        wrong = np.flatnonzero(~(np.isfinite(self.durations_ms) & (self.durations_ms >= 0)))
        if len(wrong):
            starts = self.cells[:, :, :, 0].reshape(self.stages, -1).min(axis=1)
            stage = int(np.searchsorted(starts, wrong[0], side="right")) - 1
            raise ValueError(
                f"Durations of stage {stage} of `{self.name}` must be finite and >= 0 ms, "
                f"got {self.durations_ms[wrong[0]]}."
            )
        for parent, child in self.edges:
            if not (0 <= parent < self.stages and 0 <= child < self.stages):
                raise ValueError(
                    f"Edge ({parent}, {child}) of `{self.name}` leads to nowhere: the stages are "
                    f"0 to {self.stages - 1}."
                )
        self.order  # noqa: B018  finds cycles

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.tasks)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of stages, edges and durations: equal for graphs of equal content."""
        found = hashlib.sha256(self.tasks.astype(np.int64).tobytes())
        for values in (self.edges.astype(np.int64), self.durations_ms, self.cells.astype(np.int64)):
            found.update(f"{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        return found.hexdigest()

    @cached_property
    def order(self) -> Int[ndarray, "stage"]:
        """The stages, each after its parents."""
        children: list[list[int]] = [[] for _ in range(self.stages)]
        waiting = np.zeros(self.stages, np.int64)
        for parent, child in self.edges.tolist():
            children[parent].append(child)
            waiting[child] += 1
        ready = np.flatnonzero(waiting == 0).tolist()
        for parent in ready:  # grows
            for child in children[parent]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    ready.append(child)
        if len(ready) < self.stages:
            circle = self._circle(waiting)
            raise Cycle(
                f"The stages of `{self.name}` must form no cycle, but stages "
                f"{', '.join(map(str, circle[:10]))} wait for one another.",
                circle,
            )
        return np.array(ready, np.int64)

    def _circle(self, waiting: Int[ndarray, "stage"]) -> list[int]:
        """One cycle, given for how many parents each stage waits in vain."""
        awaited = {child: parent for parent, child in self.edges.tolist() if waiting[parent]}
        stage = next(iter(awaited))
        path: dict[int, None] = {}
        while stage not in path:
            path[stage] = None
            stage = awaited[stage]
        stages = list(path)
        return sorted(stages[stages.index(stage) :])

    @property
    def levels(self) -> Int[ndarray, "stage"]:
        """Longest path, in edges, from a stage without parents to each stage."""
        place = np.argsort(self.order)
        level = np.zeros(self.stages, np.int64)
        for parent, child in self.edges[np.argsort(place[self.edges[:, 0]])].tolist():
            level[child] = max(level[child], level[parent] + 1)
        return level


def build(name: str, stages: Sequence[Waves], edges: Iterable[Sequence[int]]) -> Dag:
    """Graph of the stages, with each wave and level led to the list of durations that serves it.

    A level that a stage does not know is served by its largest one. Where a list is empty, `fresh`
    falls back to `first` plus the warm-up delay, `rest` to `first`, and `first` to `fresh`.

    Args:
        name: Name of the profile.
        stages: Durations of each stage.
        edges: Pairs (parent, child).

    Raises:
        ValueError: A stage lacks durations, has a broken number of tasks or no first wave at all,
            an edge is no pair of whole numbers, or `Dag` finds a fault.
    """
    pairs = np.array([_pair(name, edge) for edge in edges], np.int64).reshape(-1, 2)
    flat = array("d")
    cells = np.zeros((len(stages), 3, len(LEVELS), 3), np.int64)
    rough = np.zeros(len(stages))
    for number, waves in enumerate(stages):
        rough[number] = _mean(name, number, waves)
        if not (_is_whole(waves.tasks) and abs(waves.tasks) <= MOST_TASKS):
            raise ValueError(
                f"Stage {number} of `{name}` must have a whole number of tasks, at most "
                f"{MOST_TASKS}, got {waves.tasks}."
            )
        if not waves.first:
            raise ValueError(
                f"`first` of stage {number} of `{name}` must name at least one number of "
                "executors, got none."
            )
        places = {
            (kind, key): _place(flat, values)
            for kind, lists in ((FRESH, waves.fresh), (REST, waves.rest), (FIRST, waves.first))
            for key, values in lists.items()
        }
        for slot, level in enumerate(LEVELS):
            key = level if level in waves.first else max(waves.first)
            cells[number, :, slot] = _serve(places, key, f"stage {number} of `{name}`")
    return Dag(
        name=name,
        tasks=np.array([waves.tasks for waves in stages], np.int64),
        edges=pairs,
        rough_ms=rough,
        durations_ms=np.array(flat, np.float64),
        cells=cells,
    )


def _pair(name: str, edge: Iterable[float]) -> tuple[float, ...]:
    pair = tuple(edge)
    if len(pair) != 2 or not all(_is_whole(stage) and abs(stage) < 2**63 for stage in pair):
        raise ValueError(
            f"Edge {pair!s:.80} of `{name}` must be a pair of whole numbers (parent, child)."
        )
    return pair


def _is_whole(value: float) -> bool:
    return isinstance(value, int) or (
        isinstance(value, float | np.number) and float(value).is_integer()
    )


@contextmanager
def of(origin: str | Path) -> Iterator[None]:
    """Faults within name what they come from: a file, or an episode."""
    try:
        yield
    except ValueError as fault:
        raise ValueError(f"{origin}: {fault!s:.1000}") from fault


def _mean(name: str, number: int, waves: Waves) -> float:
    values = [
        np.asarray(some, np.float64)
        for lists in (waves.fresh, waves.first, waves.rest)
        for some in lists.values()
        if len(some)
    ]
    if not values:
        raise ValueError(
            f"Stage {number} of `{name}` must have at least one known duration, got none."
        )
    return float(np.mean(np.concatenate(values)))


def _place(flat: "array[float]", values: Sequence[float]) -> tuple[int, int]:
    start = len(flat)
    flat.extend(values)
    return start, len(values)


def _serve(places: dict[tuple[int, int], tuple[int, int]], key: int, what: str) -> Any:
    empty = (0, 0)
    fresh, first, rest = (places.get((kind, key), empty) for kind in (FRESH, FIRST, REST))
    if not first[1] and not fresh[1]:
        raise ValueError(
            f"For {key} executors, {what} must have `fresh` or `first` durations, got neither."
        )
    served = {
        FRESH: (*fresh, 0) if fresh[1] else (*first, 1),
        FIRST: (*first, 0) if first[1] else (*fresh, 0),
    }
    served[REST] = (*rest, 0) if rest[1] else served[FIRST]
    return [served[kind] for kind in (FRESH, REST, FIRST)]
