"""The sessions of real players in the simulator: what they amount to, and what happened in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netllm_sims.abr.session_picture import last_chunk

from netllm.real.play_log import rows
from netllm.task import Outcome, validity
from netllm.verbs.parallel import noted

if TYPE_CHECKING:
    from netllm_sims.abr.rollout import Rollout
    from netllm_sims.abr.session_picture import Chunk

    from netllm.real.session_plots import Sessions
    from netllm.verbs.pieces import Line


def simulated(line: Line) -> tuple[list[Outcome], Sessions]:
    """What a line's pieces amount to, and what happened in its sessions."""
    from netllm_sims.abr.rollout import rollout

    outcomes: list[Outcome] = []
    sessions: dict[str, list[Chunk]] = {}
    for piece in line.pieces:
        with noted(f"{line.spec.name!r} in setting {line.setting.name!r}"):
            policy = line.spec.build(line.setting)
            done = rollout(policy, line.setting, piece.episodes, seed=piece.stream, record=True)
        happened = {name: _chunks(done, row) for row, name in enumerate(done.ids)}
        told = rows(happened, line.setting, seed=piece.seed)
        outcomes.append(Outcome(told, done.actions.size, done.seconds, validity(policy)))
        sessions |= happened
    return outcomes, sessions


def _chunks(done: Rollout, row: int) -> list[Chunk]:
    """The chunks of one session, by what was seen after each."""
    steps = range(done.actions.shape[1])
    seen = [{name: x[row, step] for name, x in done.observations.items()} for step in steps]
    return [last_chunk(one) for one in [*seen, {name: x[row] for name, x in done.final.items()}]]
