"""Recorded decisions under one another, and any of them as tensors (needs `learned`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.cjs._decima_features import EXTENDED
from netllm_baselines.cjs.decima import DEMAND, describe
from netllm_baselines.cjs.decima_network import Graphs


def _ranges(first: Int[ndarray, "part"], counts: Int[ndarray, "part"]) -> Int[ndarray, "row"]:
    """`first[0], first[0] + 1, …, first[1], …`: so many of each."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + counts, counts)


def _starts(counts: Int[ndarray, "part"]) -> Int[ndarray, "part"]:
    return np.cumsum(counts) - counts


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What was seen and decided; stages, jobs and edges of each decision count from 0."""

    x: Float[ndarray, "stage 12"]
    depth: Int[ndarray, "stage"]
    job: Int[ndarray, "stage"]
    schedulable: ndarray
    options: Int[ndarray, "stage"]
    """Executors that the stage could get."""
    edges: Int[ndarray, "edge 2"]
    counts: Int[ndarray, "3 decision"]
    """Stages, jobs and edges."""
    executors: Int[ndarray, "decision"]
    actions: Int[ndarray, "decision 2"]
    """Choice and executors; more than a stage could get are as good as that."""

    def __len__(self) -> int:
        return len(self.actions)

    @classmethod
    def of(
        cls, observations: Sequence[Mapping[str, ndarray]], actions: Sequence[ndarray]
    ) -> "Decisions":
        """Of batches of observations and the actions taken there."""
        parts = [_one(observation) for observation in observations]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        counts = np.stack([joined.pop(name) for name in ("stages", "jobs", "edge_counts")])
        return cls(**joined, counts=counts, actions=np.concatenate(actions))

    def select(self, chosen: Int[ndarray, "some"]) -> Graphs:
        """The chosen decisions as tensors, stages in order of falling depth."""
        stages, jobs, edges = self.counts[:, chosen]
        first = np.stack([_starts(counts) for counts in self.counts])[:, chosen]
        rows, links = _ranges(first[0], stages), _ranges(first[2], edges)
        depth = self.depth[rows]
        order = np.argsort(-depth, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        new = _starts(stages)
        open_ = self.schedulable[rows]
        of = np.repeat(np.arange(len(chosen)), stages)
        pairs = place[self.edges[links] + np.repeat(new, edges)[:, None]]
        graphs = {
            "x": self.x[rows][order],
            "job": (self.job[rows] + np.repeat(_starts(jobs), stages))[order],
            "job_decision": np.repeat(np.arange(len(chosen)), jobs),
            "choices": place[np.flatnonzero(open_)],
        }
        graphs |= self._decided(chosen, rows, open_, of)
        return Graphs(
            levels=_levels(depth[order], pairs),
            **{name: torch.from_numpy(array) for name, array in graphs.items()},
        )

    def _decided(
        self, chosen: ndarray, rows: ndarray, open_: ndarray, of: ndarray
    ) -> dict[str, ndarray]:
        choice, count = self.actions[chosen].T
        per = np.bincount(of[open_], minlength=len(chosen))
        picked = _starts(per) + choice
        options = self.options[rows[np.flatnonzero(open_)[picked]]]
        option_of = np.repeat(np.arange(len(chosen)), options)
        less = _ranges(np.zeros_like(options), options)
        shares = less / self.executors[chosen][option_of], (less + 1) / options[option_of]
        return {
            "choice_decision": of[open_],
            "chosen": picked,
            "shares": np.stack(shares, axis=1).astype(np.float32),
            "option_decision": option_of,
            "picked": _starts(options) + np.minimum(count, options) - 1,
        }


def _one(observation: Mapping[str, ndarray]) -> dict[str, ndarray]:
    x, room, depth = describe(observation, EXTENDED)
    counts = [np.diff(observation[f"{name}_ptr"]) for name in ("stage", "job", "edge")]
    first = [observation[f"{name}_ptr"][:-1] for name in ("stage", "job", "edge")]
    demand = observation["stages"][:, DEMAND].astype(np.int64)
    return {
        "x": x,
        "depth": depth,
        "job": observation["stage_job"] - np.repeat(first[1], counts[0]),
        "schedulable": observation["schedulable"],
        "options": np.minimum(room[observation["stage_job"]], demand),
        "edges": observation["edges"] - np.repeat(first[0], counts[2])[:, None],
        "stages": counts[0],
        "jobs": counts[1],
        "edge_counts": counts[2],
        "executors": observation["executors"],
    }


def _levels(
    depth: Int[ndarray, "stage"], pairs: Int[ndarray, "edge 2"]
) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    counts = np.bincount(depth)
    levels, first = [], 0
    for level in reversed(range(len(counts))):
        parent, child = pairs[depth[pairs[:, 0]] == level].T
        levels.append(
            (torch.from_numpy(parent - first), torch.from_numpy(child), int(counts[level]))
        )
        first += int(counts[level])
    return levels
