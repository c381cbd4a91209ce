"""A third party's task: no more than must be written, and a recipe with a field of its own."""

from dataclasses import dataclass

import numpy as np
from netllm.task import Environment, Metric, PoolTask
from netllm_adapt import Recipe


@dataclass(frozen=True)
class Setting:
    """Where numbers are shown."""

    name: str
    synthetic: bool = True
    steps: int = 4
    """Numbers of an episode."""


@dataclass(frozen=True)
class Numbers:
    id: str
    seed: int


@dataclass(frozen=True)
class PatientRecipe(Recipe):
    patience: int = 2
    """How long it is waited."""


class Shown(Environment):
    answers = 3

    def __init__(self, setting, episodes):
        draws = (
            np.random.default_rng(one.seed).integers(3, size=setting.steps) for one in episodes
        )
        self.numbers, self.step_, self.right = np.stack([*draws]), 0, np.zeros(len(episodes))

    def observation(self):
        column = min(self.step_, self.numbers.shape[1] - 1)
        return {"shown": self.numbers[:, column].astype(np.float32)}

    def step(self, actions):
        right = (actions == self.numbers[:, self.step_]).astype(float)
        self.right += right
        self.step_ += 1
        return right, self.step_ == self.numbers.shape[1]

    def figures(self):
        return {"right": self.right / self.numbers.shape[1]}


class Smallest(PoolTask):
    name = "smallest"
    metrics = (Metric("right", "share right"),)
    presets = {"default": Setting("default")}  # noqa: RUF012

    def episodes(self, setting, part, *, count=None, seed=0):
        first = {"train": 0, "valid": 10_000, "test": 20_000}[part] + 100 * seed
        return [Numbers(f"{part}-{seed}-{k}", first + k) for k in range(count or 6)]

    def environment(self, setting, episodes, *, seed, record):
        return Shown(setting, episodes)

    def encoder(self, setting, recipe, *, width):
        from netllm_encoders import Step

        fields = {"shown": {"kind": "scalar"}}
        return Step(width=width, fields=fields, actions=3, return_scale=float(recipe.patience))

    def head(self, setting, *, width):
        from netllm_heads import Categorical

        return Categorical(width=width, answers=3)

    def usual_recipe(self):
        return PatientRecipe()


class Right:
    """Says the number that is shown."""

    def __init__(self, setting):
        pass

    def reset(self, seed):
        pass

    def act(self, observation):
        return observation["shown"].astype(int)
