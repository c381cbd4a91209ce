"""`netllm.real.run.real`: policies in real players, beside the same policies in the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.serve.limits import Limits
from netllm.verbs import check_arguments

if TYPE_CHECKING:
    from netllm_sims.abr import Session

    from netllm.deciders.policy_spec import PolicySpec
    from netllm.real.kept_plays import KeptPlays
    from netllm.real.play_log import Log
    from netllm.real.session_plots import Sessions
    from netllm.real.sim_and_real import RealReport
    from netllm.report.result import Result
    from netllm.serve.seat import Seat
    from netllm.task import Task
    from netllm.verbs.default_setting import World
    from netllm.verbs.pieces import Line
    from netllm.verbs.testing.measure_policies import Plan


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
    link: str = "user-space",
    deadline_s: float = 0.15,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "cpu",
    trust_backbone: bool = False,
    watch: bool = False,
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
        link: What gives a connection the speed of its trace: user-space, anywhere; or tc, in the
            kernel, where Linux lets network namespaces be made.
        deadline_s: After so long the fallback of the server decides, and if the server is gone the
            page.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override.
        device: Where models compute: cpu, cuda or mps.
        trust_backbone: Load a checkpoint's backbone from wherever the checkpoint says.
        watch: Show the players while they play: in a window if there is a display, else on a page
            whose address is told.

    Raises:
        ValueError: for unknown names, another task, or a folder with other plays.
        FileNotFoundError: if Chromium, ffmpeg, npm or a program of the link is missing.
        PermissionError: if the link may not be made.
        ConnectionError: if the player's library cannot be fetched.
        RuntimeError: if a player fails; what was played is kept.
        ModuleNotFoundError: if the extra `netllm[real]` is missing.
    """
    from netllm.deciders.policy_spec import policy_specs
    from netllm.real.kept_plays import KeptPlays
    from netllm.real.sim_and_real import RealReport
    from netllm.verbs.default_setting import world_of
    from netllm.verbs.testing.make_report import make_report

    policies, checkpoints = check_arguments.names(policy), check_arguments.names(checkpoint)
    names = [*policies, *checkpoints]
    found = _checked(task, names, player, link, episodes=episodes, players=players)
    options: dict[str, Any] = {"device": device, "trust_backbone": trust_backbone}
    specs = policy_specs(found, policies, checkpoints, (), **options)
    world = world_of(found, specs, [setting] if setting else [], set or {}, data)
    plan = _planned(found, specs, world, part, episodes)
    limits = Limits(deadline_s=deadline_s)
    kept = KeptPlays(out, _common(plan, link, player=player, deadline_s=deadline_s))
    playing = partial(_play, player=player, players=players, link=link, limits=limits)
    simulated, sessions = _simulated(found, plan)
    logs = _all_played(found, plan, kept, playing, sessions if watch else None)
    results = [_result(found, plan, line, logs[line.spec.name]) for line in plan.lines]
    report = make_report(found, [plan], results, world, specs, device=device)
    return RealReport(report, simulated, logs, sessions)


def _checked(task: str, names: Sequence[str], player: str, link: str, **counts: int | None) -> Task:
    """The task, whose videos a known player can play for somebody who decides.

    Raises:
        ValueError: if something else was asked for.
        ModuleNotFoundError: if the extra is missing.
    """
    from netllm.serve.run import check_installed

    check_installed("real", "playwright")
    from netllm.real.cable import check_programs
    from netllm.real.play_sessions import LINKS
    from netllm.real.player_library import LIBRARIES

    found = registry.task(task)
    if found.simulator != "netllm_sims.abr":
        raise ValueError(f"Real players play videos: the task must be abr, got {task!r}.")
    if not names:
        raise ValueError("Somebody must decide: name a --policy or a --checkpoint.")
    if player not in LIBRARIES:
        raise registry.unknown("player", player, [*LIBRARIES])
    if link not in LINKS:
        raise registry.unknown("link", link, [*LINKS])
    if link == "tc":
        check_programs()
    for name, count in counts.items():
        check_arguments.check_count(name, count)
    return found


def _planned(
    task: Task, specs: Sequence[PolicySpec], world: World, part: str, episodes: int | None
) -> Plan:
    """Who decides in which sessions, all of them by what a player sees in one session.

    Raises:
        ValueError: if somebody knows more, or goes from session to session, or the setting is live.
    """
    from netllm.verbs.testing import measure_policies

    if world.places[0].live:
        raise ValueError(
            f"Real players play video on demand, but {world.places[0].name!r} is live. Name "
            "another --setting."
        )

    asked = measure_policies.Episodes(part, episodes, ())
    plan = measure_policies.plan(task, specs, world.places[0], asked)
    for line in plan.lines:
        knows = line.declared.knows
        if knows or line.declared.sequential:
            why = f"knows {knows}" if knows else "carries state from one to the next"
            raise ValueError(
                "Who decides for real players must go by what they see of one session, but "
                f"{line.spec.name} {why}. Name another --policy."
            )
    return plan


def _common(plan: Plan, link: str, **more: Any) -> dict[str, Any]:
    """What plays of one folder have in common; those that tell no link had the usual one."""
    from netllm.data import sources
    from netllm.task.fields import fields_of

    return {
        "setting": plan.setting.name,
        "part": plan.part,
        "data": sources.kept(sources.sources(plan.setting)),
        **{one.name: one.default for one in fields_of(plan.setting)},
        **more,
        **({} if link == "user-space" else {"link": link}),
    }


def _all_played(
    task: Task,
    plan: Plan,
    kept: KeptPlays,
    playing: Callable[..., None],
    simulated: Mapping[str, Sessions] | None,
) -> dict[str, dict[str, Log]]:
    """The logs of everybody's sessions; watched, beside those of the simulator, if these are given.

    Raises:
        RuntimeError: as `_played` does.
    """
    from netllm.real.session_plots import real_sessions
    from netllm.real.watch import Watch

    watch = None
    if simulated is not None:
        watch = Watch({f"{who} (simulated)": some for who, some in simulated.items()})
    logs = {}
    for line in plan.lines:
        if watch:
            watch.who = line.spec.name
        logs[line.spec.name] = _played(task, line, kept, partial(playing, watch=watch))
        if watch:
            watch.rivals[line.spec.name] = real_sessions(logs[line.spec.name], plan.setting)
    return logs


def _played(
    task: Task, line: Line, kept: KeptPlays, playing: Callable[..., None]
) -> dict[str, Log]:
    """The logs of a line's sessions, played now or before.

    Raises:
        RuntimeError: if a player has failed; what others played is kept.
    """
    from tqdm import tqdm

    who = _who(line)
    logs = {one.id: log for one in line.episodes if (log := kept.read(who, one)) is not None}
    left = [one for one in line.episodes if one.id not in logs]
    bar = tqdm(
        total=len(line.episodes), initial=len(logs), desc=f"real {line.spec.name}", disable=None
    )
    failed: list[str] = []

    def ended(session: Session, log: Log) -> None:
        file = kept.write(who, session, log)
        if log.error:
            failed.append(f"session {session.id!r}: {log.error} ({file})")
        else:
            logs[session.id] = log
            bar.update()

    with bar:
        if left:
            playing(task, line, left, ended=ended)
    if failed:
        raise RuntimeError(
            f"A player has failed with {line.spec.name} in {'; '.join(failed)}. What was played is "
            "kept: the same command goes on."
        )
    return {one.id: logs[one.id] for one in line.episodes}


def _who(line: Line) -> str:
    """Who decides, told apart from others of the same name by the digest of their weights."""
    from netllm.deciders.policy_spec import weight_sources

    digests = [one.sha256[:8] for one in weight_sources([line.spec]) if one.sha256]
    return "-".join([line.spec.name, *digests])


def _simulated(task: Task, plan: Plan) -> tuple[list[Result], dict[str, Sessions]]:
    """What every line amounts to in the simulator, and by policy what happened in its sessions."""
    from netllm.real.simulated import simulated
    from netllm.verbs.testing import measure_policies

    results, sessions = [], {}
    for line in plan.lines:
        outcomes, sessions[line.spec.name] = simulated(line)
        results.append(measure_policies.result(task, plan, line, outcomes))
    return results, sessions


def _result(task: Task, plan: Plan, line: Line, logs: Mapping[str, Log]) -> Result:
    """What a line's plays amount to."""
    from netllm.real.play_log import rows
    from netllm.real.session_plots import real_sessions
    from netllm.task import Outcome
    from netllm.verbs.testing import measure_policies

    told = rows(real_sessions(logs, line.setting), line.setting, seed=line.pieces[0].seed)
    chunks = [chunk for log in logs.values() for chunk in log.chunks]
    asked, took_s = sum(bool(one.by) for one in chunks), sum(one.took_s for one in chunks)
    return measure_policies.result(task, plan, line, [Outcome(told, asked, took_s)])


def _play(
    task: Task, line: Line, sessions: Sequence[Session], *, limits: Limits, **how: Any
) -> None:
    """Play sessions, now."""
    from netllm.real.decision_server import deciding
    from netllm.real.play_sessions import play_sessions

    how |= {"deadline_s": limits.deadline_s}
    with deciding(partial(_seat, task, line), limits) as server:
        asyncio.run(play_sessions(line.setting, sessions, server=server, **how))


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
