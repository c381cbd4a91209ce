"""Laws of the simulator, for any graphs, arrivals, cluster and decisions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from netllm_sims import cjs
from netllm_sims.cjs.engine import state_arrays


@st.composite
def dag(draw):
    count = draw(st.integers(1, 6))
    edges = [
        (parent, child) for child in range(count) for parent in range(child) if draw(st.booleans())
    ]
    waves = []
    for _ in range(count):
        durations = draw(st.lists(st.integers(0, 5000), min_size=1, max_size=4))
        fresh = {5: durations} if draw(st.booleans()) else {}
        rest = {5: durations[::-1]} if draw(st.booleans()) else {}
        first = {5: durations, 10: durations[:1]}
        tasks = draw(st.integers(1, 12))
        waves.append({"tasks": tasks, "fresh": fresh, "first": first, "rest": rest})
    return waves, edges


@st.composite
def cluster(draw):
    """What makes a simulator of one to five jobs, of which some may come at the same time."""
    waits_ms = draw(st.lists(st.sampled_from([0, 0, 100, 3000, 60_000]), min_size=1, max_size=5))
    num_executors = draw(st.integers(1, 12))
    return {
        "dags": [(draw(dag()), float(time_ms)) for time_ms in np.cumsum(waits_ms)],
        "num_executors": num_executors,
        "slow_executors": draw(st.sampled_from([0, num_executors // 2, num_executors])),
        "moving_ms": draw(st.sampled_from([0, 2000])),
        "warmup_ms": draw(st.sampled_from([0, 1000])),
        "luck": draw(st.integers(0, 2**32)),
    }


def started(dags, luck, **numbers):
    """The simulator; built here and not by the strategy, since beartype draws random numbers."""
    jobs = []
    for (waves, edges), arrival_ms in dags:
        graph = cjs.build("d", [cjs.Waves(**one) for one in waves], edges)
        jobs.append(cjs.Job(graph, arrival_ms))
    setting = cjs.setting("synthetic", **numbers)
    episode = cjs.Episode(id="e", seed=0, jobs=cjs.Workload(jobs), durations=cjs.Sampled(luck))
    return cjs.Simulator(setting, episode, log=True)


def play(simulator, seed, watch=lambda: None):
    """Random decisions, none of them whenever that is allowed and the die says so."""
    rng = np.random.default_rng(seed)
    while not simulator.done:
        watch()
        count = len(simulator.schedulable)
        choice = int(rng.integers(-1 if simulator.can_wait else 0, count))
        simulator.step(choice, int(rng.integers(1, simulator.committable + 1)))


def conserved(simulator):
    """Every executor is in one pool or on its way; counts agree with a recount."""
    world, state = simulator.world, simulator.state
    stage, place = state.stage, state.executor[:, state_arrays.AT_POOL]
    jobs = len(world.arrival_ms)
    moving = stage[:, state_arrays.MOVING].sum()
    assert (place >= 0).sum() + moving == len(place)
    sets = {k: pool for pool, k in enumerate(state.pool[:, state_arrays.SET]) if k >= 0}
    members = {}
    for k, pool in sets.items():
        cells = state.table[k, : state.sets[k, state_arrays.MASK] + 1]
        members.update(dict.fromkeys((cells[cells > 0] - 1).tolist(), pool))
    assert members == {e: p for e, p in enumerate(place.tolist()) if p >= 0}
    busy = state.executor[:, state_arrays.BUSY] == 1
    running = np.bincount(state.executor[busy, state_arrays.TARGET], minlength=len(stage))
    assert running.tolist() == stage[:, state_arrays.RUNNING].tolist()
    demand = stage[:, [state_arrays.UNSTARTED, state_arrays.MOVING, state_arrays.COMMITTED]] @ [
        1,
        -1,
        -1,
    ]
    assert demand.tolist() == stage[:, state_arrays.DEMAND].tolist()
    thirsty = np.zeros(len(stage), int)
    np.add.at(thirsty, world.edges[:, 1], demand[world.edges[:, 0]] > 0)
    assert thirsty.tolist() == stage[:, state_arrays.THIRSTY_PARENTS].tolist()
    ready = np.bincount(world.job_of, (demand > 0) & (thirsty == 0), minlength=jobs)
    assert ready.tolist() == state.job[:, state_arrays.READY].tolist()
    at = state.executor[:, state_arrays.AT_JOB]
    assert (
        np.bincount(at[at >= 0], minlength=jobs).tolist()
        == state.job[:, state_arrays.LOCAL].tolist()
    )


@given(cluster(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_executors_are_conserved_and_every_job_finishes(made, seed):
    simulator = started(**made)
    play(simulator, seed, watch=lambda: conserved(simulator))
    conserved(simulator)
    assert np.isfinite(simulator.jct_s).all()
    assert (simulator.jct_s >= 0).all()
    assert not simulator.state.stage[:, : state_arrays.DEMAND].any()
    assert 0 <= simulator.utilisation <= 1


@given(cluster(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_no_task_runs_twice_and_none_before_its_stages_parents(made, seed):
    simulator = started(**made)
    play(simulator, seed)
    log, tasks = simulator.task_log, simulator.world.tasks
    start_ms, duration_ms, executor, stage = log[:, 0], log[:, 1], log[:, 2], log[:, 3].astype(int)
    for s, count in enumerate(tasks):
        assert sorted(log[stage == s, 6]) == list(range(count))
    end_ms = start_ms + duration_ms
    for parent, child in simulator.world.edges:
        assert start_ms[stage == child].min() >= end_ms[stage == parent].max()
    jobs = simulator.world.job_of[stage]
    moving_ms = simulator.setting.moving_ms
    for e in range(simulator.setting.num_executors):
        mine = np.flatnonzero(executor == e)
        gap_ms = start_ms[mine][1:] - end_ms[mine][:-1]
        assert (gap_ms >= np.where(np.diff(jobs[mine]) != 0, moving_ms, 0) - 1e-6).all()


@given(cluster(), st.integers(0, 2**32))
@settings(max_examples=25)
def test_time_never_runs_back(made, seed):
    simulator = started(**made)
    play(simulator, seed)
    log = simulator.event_log
    assert (np.diff(log[:, 0]) >= 0).all()
    assert (log[:, 1] == 2).sum() == simulator.world.tasks.sum()
    assert (log[:, 1] == 0).sum() == len(simulator.world.arrival_ms)


@given(cluster(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_rewards_add_up_to_the_completion_times(made, seed):
    simulator = started(**made)
    rng, total_ms, before_ms = np.random.default_rng(seed), 0.0, 0.0
    while not simulator.done:
        choice = int(rng.integers(0, len(simulator.schedulable)))
        reward_ms = simulator.step(choice, int(rng.integers(1, simulator.committable + 1)))
        assert reward_ms <= 0
        assert simulator.time_ms > before_ms or reward_ms == 0
        total_ms, before_ms = total_ms - reward_ms, simulator.time_ms
    np.testing.assert_allclose(total_ms, simulator.jct_s.sum() * 1e3, rtol=1e-9, atol=1e-6)
