"""The rounds of a distillation: the student plays, the model is asked, the student learns."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from netllm.task import Policy, Task
from netllm.task.student import Training
from netllm.verbs.distilling import states
from netllm.verbs.distilling.choose_when_unsure import choose_when_unsure
from netllm.verbs.parallel import derived_seed
from netllm.verbs.validation import VALIDATION_SEED, figures

_log = logging.getLogger("netllm.steps")
EPSILON = 0.1
"""Share of random answers in the first round, in which the model itself plays."""

Line = Mapping[str, Any]
"""What the log says of a round."""


@dataclass(frozen=True)
class Rounds:
    """What the rounds of a distillation have in common."""

    task: Task
    place: Any
    """The setting."""
    teacher: Callable[[], Policy]
    """Builds the adapted model as a policy."""
    make: Callable[..., Training]
    """Begins a student: called with the setting and `seed`."""
    out: Path
    seed: int
    episodes: int
    """Asked about in each round."""
    validation: int | None
    """How many validation episodes; all if None."""

    @cached_property
    def valid(self) -> Sequence[Any]:
        """The validation episodes."""
        return self.task.episodes(self.place, "valid", count=self.validation, seed=VALIDATION_SEED)

    @property
    def file(self) -> str:
        """What the student's file is called."""
        return self.make(self.place, seed=0).file

    def lines(self) -> list[dict[str, Any]]:
        """The log's, round by round."""
        from netllm_adapt.training.run_folder import read_log

        return read_log(self.out) if (self.out / "log.jsonl").exists() else []

    def play(self, number: int) -> None:
        """One round; nothing if it is done."""
        lines = self.lines()
        if len(lines) >= number:
            return
        begun = time.monotonic()
        if not self._states(number).exists():
            _log.info("[%d] ask the model", number)
            states.write(self._states(number), self._ask(number))
        asked = time.monotonic()
        _log.info("[%d] learn", number)
        training = self._begun(number)
        seen, wanted = states.read([self._states(n) for n in range(1, number + 1)])
        error = training.learn(seen, wanted)
        about = {"kind": "student", "task": self.task.name, "round": number}
        training.save(self._weights(number), about)
        found = figures(self.task, training.policy(), self.place, self.valid)
        line = {
            "round": number,
            "step": len(wanted),
            "error": error,
            "asking_s": round(asked - begun, 3),
            "learning_s": round(time.monotonic() - asked, 3),
            "validation": found,
        }
        self._write([*lines, line])

    def finish(self, about: Mapping[str, Any], told: Path, *, most_asked: float) -> None:
        """Keep the best round's student, with the threshold below which it asks.

        Args:
            about: how it is made.
            told: a JSON file of it, and of the figures on validation; the student's own has both.
            most_asked: largest share of decisions that may reach the model.
        """
        from netllm_adapt.files.writing import new_file

        metric, sign = self.task.metrics[0], 1 if self.task.metrics[0].higher_is_better else -1
        lines = self.lines()
        kept = max(lines, key=lambda line: sign * line["validation"][metric.key])
        training = self.make(self.place, seed=self.seed)
        training.begin_with(self._weights(kept["round"]))
        _log.info("validate the model")
        meta = {
            **about,
            "kind": "student",
            "round": kept["round"],
            "rounds": len(lines),
            "validation": kept["validation"],
            "model": figures(self.task, self.teacher(), self.place, self.valid),
        }
        student = training.policy()
        if hasattr(student, "probabilities"):
            _log.info("choose when it asks the model")
            meta |= choose_when_unsure(
                self.task, self.place, student, self.teacher(), self.valid, most_asked=most_asked
            )
        training.save(self.out / self.file, meta)
        with new_file(told) as work:
            work.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")

    def _ask(self, number: int) -> dict[str, Any]:
        """What is seen and wanted in new training episodes, which the student plays, if it can."""
        seed = derived_seed(self.seed, number)
        episodes = self.task.episodes(self.place, "train", count=self.episodes, seed=seed)
        own = number == 1 or self.task.supervised  # predictions lead to no other states
        driver = None if own else self._begun(number).policy(sample=True)
        asked = states.Asked(self.teacher(), driver, epsilon=EPSILON if driver is None else 0.0)
        self.task.rollout(asked, self.place, episodes, seed=seed)
        return asked.states()

    def _begun(self, number: int) -> Training:
        """The student at the beginning of a round, after the one before."""
        training = self.make(self.place, seed=derived_seed(self.seed, number))
        if number > 1:
            training.begin_with(self._weights(number - 1))
        return training

    def _states(self, number: int) -> Path:
        return self.out / f"states-{number}.safetensors"

    def _weights(self, number: int) -> Path:
        return self.out / f"round-{number}{Path(self.file).suffix}"

    def _write(self, lines: Sequence[Line]) -> None:
        from netllm_adapt.files.writing import new_file

        with new_file(self.out / "log.jsonl") as work:
            work.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
