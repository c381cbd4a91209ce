"""How a student of an adapted model learns: PPO's network on the model's probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from netllm_baselines.abr.ppo_features import features
from netllm_baselines.abr.ppo_imitation import Imitator
from netllm_baselines.perceptron import Perceptron
from netllm_sims.abr import Setting

from netllm.abr.student import Student
from netllm.task.student import Graph

HIDDEN = (384, 384)
"""Widths of the hidden layers, those of `PPO`: 720 kB in float32."""
PASSES, RATE = 12, 1e-3


class Training:
    """A student under training.

    Args:
        setting: where it will decide.
        seed: of everything random.
    """

    file = "student.npz"

    def __init__(self, setting: Setting, *, seed: int) -> None:
        self._setting = setting
        self._generator = torch.Generator().manual_seed(seed)
        self._begun: Perceptron | None = None

    def begin_with(self, file: Path) -> None:
        """Take the weights that `save` wrote."""
        self._begun = Perceptron.load(file)

    def learn(
        self, seen: Mapping[str, np.ndarray], wanted: Float[np.ndarray, "decision level"]
    ) -> float:
        """Learn the probability of each level; the mean cross-entropy of the last pass."""
        states, targets = features(seen), wanted.astype(np.float32)
        network = Imitator(states, targets.shape[1], hidden=HIDDEN, generator=self._generator)
        if self._begun is not None:
            network.begin_with(self._begun)
        error = network.learn(states, targets, passes=PASSES, rate=RATE)
        self._begun = network.actor()
        return error

    def policy(self, *, sample: bool = False) -> Student:
        """The student as it is."""
        return Student(self._setting, sample=sample, weights=self._actor())

    @staticmethod
    def graph(file: Path) -> Graph:
        """The student of a file as a torch module."""
        from netllm.abr.student_graph import StudentGraph, example

        actor = Perceptron.load(file)
        return Graph(StudentGraph(actor).eval(), example(actor.outputs), "probabilities")

    def save(self, file: Path, meta: Mapping[str, Any]) -> None:
        """Write its weights, and what is known of them."""
        replace(self._actor(), meta=dict(meta)).save(file)

    def _actor(self) -> Perceptron:
        if self._begun is None:
            raise ValueError("A student must have learned, or begun with a file, to decide.")
        return self._begun
