"""Train the PPO actor in randomised worlds (needs the extra `learned`); a stopped run goes on."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tqdm
from netllm_sims.abr import Session, Setting, rollout
from netllm_sims.abr import setting as named_setting

from netllm_baselines import _weights_files
from netllm_baselines._recipes_and_best_weights import few_threads, keep_best, override
from netllm_baselines.abr.ppo import PPO
from netllm_baselines.abr.ppo_imitation import imitate
from netllm_baselines.abr.ppo_learner import Learner
from netllm_baselines.abr.ppo_top_rule import TopRule
from netllm_baselines.abr.ppo_wide_recipe import PPOWideRecipe
from netllm_baselines.abr.training_sessions import training, validation, validation_worlds
from netllm_baselines.perceptron import Perceptron

_log = logging.getLogger(__name__)
_WHAT = "where a training of ppo-wide stopped"


def train_ppo_wide(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int = 9_400_000,
    seed: int = 0,
    recipe: PPOWideRecipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str,
) -> Path:
    """Write the actor with the best validation QoE, on recorded and in randomised worlds.

    It imitates `PPO` with the top rule (see `ppo_imitation`, `ppo_top_rule`), and then learns as
    `PPO` does, with a critic that sees the coming bandwidth, in sessions of the train part: a share
    in randomised worlds (`netllm_sims.abr.Worlds`), the rest altered as `PPO`'s. Validated and
    saved is a running average of the weights, played greedily. The test part is never touched.

    A log with one JSON object per update is written beside `out`, and after every validation
    `OUT.state.npz`, from which the same call goes on; at the end it is removed. Same seed, machine
    and threads: same file, whether the run was stopped or not.

    Args:
        setting: A setting or its name.
        out: The `.npz` to write.
        steps: Decisions to learn from after the imitation.
        seed: Of everything random.
        recipe: Other numbers than the default ones.
        threads: Torch threads while training.
        command: Remembered in the file's metadata.
        overrides: Single fields of the recipe.

    Raises:
        ValueError: A field of the recipe that does not fit, or the state of another training beside
            `out`.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    recipe = override(recipe or PPOWideRecipe(), overrides)
    with few_threads(threads):
        run = Run(setting, recipe, steps=steps, seed=seed, out=Path(out), command=command)
        keep_best(run.updates(), run.out, lines=run.done)
    run.state.unlink(missing_ok=True)
    return run.out


class Run:
    """One training and where it stands: at its beginning, or where the file of its state says.

    Args:
        setting: Where the sessions are played.
        recipe: The numbers.
        steps: Decisions to learn from after the imitation.
        seed: Of everything random.
        out: File of the weights; `OUT.state.npz` beside it is the state.
        command: Remembered in the file's metadata.

    Raises:
        ValueError: The state is another training's.
    """

    def __init__(
        self,
        setting: Setting,
        recipe: PPOWideRecipe,
        *,
        steps: int,
        seed: int,
        out: Path,
        command: str,
    ) -> None:
        self._setting, self._recipe, self._seed, self.out = setting, recipe, seed, out
        self.state = out.with_suffix(".state.npz")
        self._stages = recipe.stages()
        updates = max(2, round(steps / (recipe.sessions * (setting.video.chunks - 1))))
        first = min(max(1, round(recipe.first_share * updates)), updates - 1)
        self._updates = (first, updates - first)
        self._facts: dict[str, object] = {
            "setting": setting.name,
            "synthetic": setting.synthetic,
            "seed": seed,
            "steps": updates * recipe.sessions * (setting.video.chunks - 1),
            "recipe": asdict(recipe),
        }
        self._command = command
        self.done, self._best = 0, -np.inf
        self._learner = self._learner_of(0)
        if self.state.exists():
            self._resume()
        else:
            self._learner.begin_with(imitate(TopRule(setting), setting, recipe=recipe, seed=seed))

    def updates(self) -> Iterator[tuple[dict[str, float], Perceptron | None]]:
        """What to log after each update, and the actor if it is the best so far."""
        first, total = self._updates[0], sum(self._updates)
        valid = (
            validation(self._setting, recipe=self._stages[0]),
            validation_worlds(self._setting, recipe=self._stages[0]),
        )
        started = time.perf_counter()
        bar = tqdm.tqdm(
            range(self.done + 1, total + 1), desc="ppo-wide", unit="update", disable=None
        )
        for number in bar:
            if number == first + 1:
                self._second_stage()
            line = {"update": float(number)} | self._update(number)
            actor, checked = None, number % self._recipe.validate_every == 0 or number == total
            if checked:
                actor = self._validate(line, number, valid)
                bar.set_postfix(valid=f"{line['valid_qoe']:.4f}", best=f"{self._best:.4f}")
            yield line | {"seconds": time.perf_counter() - started}, actor
            self.done = number
            if checked:
                self._save()
        _log.info("best greedy QoE on the validation part: %.4f", self._best)

    def _learner_of(self, stage: int) -> Learner:
        return Learner(
            setting=self._setting,
            recipe=self._stages[stage],
            updates=self._updates[stage],
            seed=self._seed,
        )

    def _second_stage(self) -> None:
        """Go on with the averaged actor and the critic, and a new schedule."""
        before, self._learner = self._learner, self._learner_of(1)
        self._learner.begin_with(before.actor())
        self._learner.take_critic(before)

    def _update(self, number: int) -> dict[str, float]:
        """One update; all that is random follows from its number, so that it can be redone."""
        rng = np.random.default_rng([self._seed, number])
        self._learner.seed(int(rng.integers(2**31)))
        stage = self._stages[number > self._updates[0]]
        return self._learner.update(training(self._setting, stage.sessions, recipe=stage, rng=rng))

    def _validate(
        self, line: dict[str, float], number: int, valid: tuple[list[Session], list[Session]]
    ) -> Perceptron | None:
        """Write the validation's QoE into the line; the actor if it is the best so far."""
        candidate = self._learner.actor()
        policy = PPO(self._setting, weights=candidate)
        plain, wide = (
            float(rollout(policy, self._setting, sessions).qoe.mean()) for sessions in valid
        )
        weight = self._recipe.plain_weight
        line |= {"valid_plain": plain, "valid_wide": wide}
        line["valid_qoe"] = weight * plain + (1 - weight) * wide
        if line["valid_qoe"] <= self._best:
            return None
        self._best = line["valid_qoe"]
        names = ("valid_qoe", "valid_plain", "valid_wide")
        found = {name: line[name] for name in names} | {"update": number}
        return replace(candidate, meta=self._facts | {"command": self._command} | found)

    def _save(self) -> None:
        meta = self._facts | {"done": self.done, "best": self._best}
        _weights_files.write_npz(self.state, _weights_files.with_meta(self._learner.state(), meta))

    def _resume(self) -> None:
        arrays, meta = _weights_files.read_npz(self.state, _WHAT)
        if {name: meta.get(name) for name in self._facts} != self._facts:
            raise ValueError(
                f"{self.state}: this is {_WHAT} with other numbers. Give the setting, seed, steps "
                "and recipe of then to go on, or remove the file to begin anew."
            )
        self.done, self._best = int(meta["done"]), float(meta["best"])
        if self.done > self._updates[0]:
            self._learner = self._learner_of(1)
        self._learner.restore(arrays)
        _log.info("going on after update %d", self.done)
