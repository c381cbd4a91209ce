"""`netllm.real.run.real`: policies in real players, beside the same policies in the simulator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from netllm import registry
from netllm.verbs import check_arguments

if TYPE_CHECKING:
    from netllm_sims.abr import Session

    from netllm.real.play_log import Log
    from netllm.real.sim_and_real import RealReport
    from netllm.serve.seat import Seat
    from netllm.task import Outcome, Task
    from netllm.verbs.measure_policies import Plan
    from netllm.verbs.pieces import Line


def real(
    task: str,
    *,
    out: Path,
    policy: str | Sequence[str] = (),
    checkpoint: str | Path | Sequence[str | Path] = (),
    setting: str = "",
    part: str = "test",
    episodes: int | None = 10,
    player: str = "dashjs",
    players: int = 2,
    deadline_s: float = 0.15,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "cpu",
    trust_backbone: bool = False,
) -> RealReport:
    """Let policies and checkpoints decide for real web players, and in the simulator.

    Every session is played in a headless Chromium, in real time, over a connection whose speed
    follows its trace; the server of `netllm serve` decides. What was played is kept one by one, so
    that a run that was cut off goes on where it stopped. It needs Chromium and ffmpeg, and npm for
    the first time.

    Args:
        task: abr.
        out: Folder of what was played and found.
        policy: Names of policies, as `test` takes them.
        checkpoint: Folders of runs or checkpoints, or pretrained.
        setting: Where they decide; unless given, where the checkpoints were adapted, or else in
            default.
        part: Part of the setting: train, valid or test.
        episodes: Only the first so many sessions.
        player: dashjs, shaka or hlsjs.
        players: How many play at once.
        deadline_s: After so long the fallback of the server decides, and if the server is gone the
            page.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override.
        device: Where models compute: cpu, cuda or mps.
        trust_backbone: Load a checkpoint's backbone from wherever the checkpoint says.

    Raises:
        ValueError: for unknown names, another task, or a folder with other plays.
        FileNotFoundError: if Chromium, ffmpeg or npm is missing.
        RuntimeError: if a player fails.
    """
    from netllm.real.player_library import LIBRARIES
    from netllm.real.sim_and_real import RealReport
    from netllm.verbs import measure_policies
    from netllm.verbs.default_setting import world_of
    from netllm.verbs.make_report import make_report
    from netllm.verbs.policy_spec import policy_specs

    found = registry.task(task)
    if found.simulator != "netllm_sims.abr":
        raise ValueError(f"Real players play videos: the task must be abr, got {task!r}.")
    policies, checkpoints = check_arguments.names(policy), check_arguments.names(checkpoint)
    if not (policies or checkpoints):
        raise ValueError("Somebody must decide: name a --policy or a --checkpoint.")
    check_arguments.check_count("episodes", episodes)
    check_arguments.check_count("players", players)
    options: dict[str, Any] = {"device": device, "trust_backbone": trust_backbone}
    specs = policy_specs(found, policies, checkpoints, (), **options)
    world = world_of(found, specs, [setting] if setting else [], set or {}, data)
    asked = measure_policies.Episodes(part, episodes, ())
    plan = measure_policies.plan(found, specs, world.places[0], asked)
    if player not in LIBRARIES:
        raise registry.unknown("player", player, [*LIBRARIES])
    plays = Plays(out, plan, player, deadline_s)
    simulated = measure_policies.run(found, [plan], jobs=1)
    results, logs = [], {}
    for line in plan.lines:
        outcome, logs[line.spec.name] = _played(found, line, plays, players)
        results.append(measure_policies.result(found, plan, line, [outcome]))
    report = make_report(found, [plan], results, world, specs, device=device)
    return RealReport(report, simulated, logs)


class Plays:
    """The logs of what was played, file by file in a folder.

    Raises:
        ValueError: if the folder holds plays of another setting, player or deadline.
    """

    def __init__(self, folder: Path, plan: Plan, player: str, deadline_s: float) -> None:
        from netllm.data import sources
        from netllm.verbs.check_writable import check_folder

        check_folder(folder)
        self._folder, self.player, self.deadline_s = folder / "plays", player, deadline_s
        world = sources.described(plan.setting)
        told = {"setting": world, "player": player, "deadline_s": deadline_s}
        file = folder / "plays.json"
        if file.exists():
            before = msgspec.json.decode(file.read_bytes())
            if before != told:
                raise ValueError(
                    f"{folder} holds plays of {before}, these are of {told}. Choose another --out."
                )
            return
        self._write(file, told)

    def read(self, who: str, session: Session) -> Log | None:
        """What was played already."""
        from netllm.real.play_log import Log

        file = self._file(who, session)
        return msgspec.json.decode(file.read_bytes(), type=Log) if file.exists() else None

    def write(self, who: str, session: Session, log: Log) -> None:
        """Keep what was played."""
        self._write(self._file(who, session), log)

    def _file(self, who: str, session: Session) -> Path:
        return self._folder / _word(who) / f"{_word(session.id)}.json"

    @staticmethod
    def _write(file: Path, content: Any) -> None:
        from netllm_adapt.files.writing import new_file

        file.parent.mkdir(parents=True, exist_ok=True)
        with new_file(file) as work:
            work.write_bytes(msgspec.json.encode(content))


def _word(name: str) -> str:
    """A name that a file can have."""
    return re.sub(r"[^\w.-]+", "_", name)


def _played(
    task: Task, line: Line, plays: Plays, players: int
) -> tuple[Outcome, Mapping[str, Log]]:
    """A policy's rows and logs, of what was played now and before."""
    from tqdm import tqdm

    from netllm.real.play_log import figures
    from netllm.task import Outcome

    who = line.spec.name
    logs = {one.id: log for one in line.episodes if (log := plays.read(who, one)) is not None}
    left = [one for one in line.episodes if one.id not in logs]
    bar = tqdm(total=len(line.episodes), initial=len(logs), desc=f"real {who}", disable=None)

    def played(session: Session, log: Log) -> None:
        plays.write(who, session, log)
        logs[session.id] = log
        bar.update()

    with bar:
        if left:
            _play(task, line, left, played, plays, players)
    seed = line.pieces[0].seed
    rows = [
        {"id": one.id, "seed": seed, **figures(logs[one.id], line.setting)} for one in line.episodes
    ]
    took_s = sum(chunk.took_s for log in logs.values() for chunk in log.chunks)
    asked = sum(bool(chunk.by) for log in logs.values() for chunk in log.chunks)
    return Outcome(rows, asked, took_s), {one.id: logs[one.id] for one in line.episodes}


def _play(
    task: Task, line: Line, sessions: Sequence[Session], played: Any, plays: Plays, players: int
) -> None:
    """Play sessions, now."""
    from netllm.real.play_sessions import play_sessions
    from netllm.serve.limits import Limits

    asyncio.run(
        play_sessions(
            _seat(task, line),
            sessions,
            player=plays.player,
            players=players,
            limits=Limits(deadline_s=plays.deadline_s),
            played=played,
        )
    )


def _seat(task: Task, line: Line) -> Seat:
    """Who decides, as the server has it."""
    from netllm.serve.one_each import OneEach
    from netllm.serve.seat import Seat

    policy = line.spec.build(line.setting)
    if not hasattr(policy, "open"):
        policy = OneEach(lambda: line.spec.build(line.setting))
    fallback = registry.policy(task.name, task.fallback, line.setting)
    seat = Seat(
        task=task,
        setting=line.setting,
        policy=policy,
        fallback=fallback,
        fallback_name=task.fallback,
    )
    seat.warm_up()
    return seat
