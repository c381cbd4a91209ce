import numpy as np
import pytest
from netllm_sims import cjs
from netllm_sims.cjs.compiled_policy_tools import copy_present, present, redraw_running
from netllm_sims.cjs.engine.state_arrays import (
    ARRIVED,
    BUSY,
    CROWD,
    LUCK,
    NOW,
    PENDING,
    SCHEDULABLE,
    TARGET,
    WAVE,
    build_state,
)


@pytest.fixture(scope="module", params=[0, 3], ids=["alike", "slow-ones"])
def setting(request):
    slow = {"slow_executors": request.param, "slow_factor": 3}
    return cjs.setting("synthetic", num_jobs=12, num_executors=8, **slow)


def moments(setting, every):
    """A simulator, now and again during an episode under Fair."""
    simulator = cjs.Simulator(setting, setting.episodes("valid", episodes=1)[0])
    while not simulator.done:
        if simulator.decisions % every == 0:
            yield simulator
        simulator.step(*simulator.ask(cjs.fair()))


def test_a_copy_of_the_present_jobs_ends_them_as_the_whole_would(setting):
    """The whole: a full copy to which no further job comes; the target holds another's rest."""
    target = None
    for simulator in moments(setting, 5):
        world = simulator.world
        whole, part = simulator.copy(), simulator.copy()
        if target is None:
            target = build_state(world)
        jobs = np.zeros(len(world.arrival_ms), np.int64)
        count = present(world, simulator.state, jobs)
        copy_present(world, simulator.state, target, jobs, count)
        part.state = target
        whole.state.g[ARRIVED] = len(world.arrival_ms)
        for run in (whole, part):
            while run.state.g[SCHEDULABLE] > 0:
                run.step(*run.ask(cjs.fair()))
        here = np.flatnonzero(np.isinf(simulator.state.done_ms[: simulator.state.g[ARRIVED]]))
        assert np.isfinite(whole.state.done_ms[here]).all()
        assert (part.state.done_ms[here] == whole.state.done_ms[here]).all()


def test_running_tasks_are_redrawn_from_their_source_given_that_they_run(setting):
    simulator = next(s for s in moments(setting, 5) if s.decisions >= 40)
    world, state = simulator.world, simulator.state
    count = int(state.g[PENDING])
    seen = {e: [] for e in range(8)}
    for luck in range(400):
        heap_ms, heap = np.zeros(8), np.zeros((8, 2), np.int64)
        redraw_running(world, state, luck, heap_ms, heap)
        assert (np.diff(heap_ms[:count]) >= 0).all()
        assert sorted(heap[:count, 1]) == sorted(state.heap[:count, 1])
        for time_ms, e in zip(heap_ms[:count], heap[:count, 1], strict=True):
            seen[e].append(time_ms - state.start_ms[e] if state.executor[e, BUSY] else time_ms)
    for i in range(count):
        e = state.heap[i, 1]
        if not state.executor[e, BUSY]:
            assert set(seen[e]) == {state.heap_ms[i]}
            continue
        s, wave, local = state.executor[e, [TARGET, WAVE, CROWD]]
        elapsed_ms = state.clock[NOW] - state.start_ms[e]
        known = set()
        for level in world.bracket[local]:
            start, size, warm = world.cells[world.row[s], wave, level]
            values = world.durations_ms[start : start + size] + warm * setting.warmup_ms
            values = values * world.slowness[e]
            known |= {round(float(v), 3) for v in values if v >= elapsed_ms}
        drawn = {round(float(v), 3) for v in seen[e]}
        assert drawn == known
        assert len(known) == 1 or len(drawn) > 1


def test_redrawn_ends_do_not_depend_on_the_true_ones(setting):
    for simulator in moments(setting, 20):
        world, count = simulator.world, int(simulator.state.g[PENDING])
        results = []
        for factor in (1.0, 7.0):
            twin = simulator.copy()
            state, now_ms = twin.state, twin.time_ms
            state.g[LUCK] += factor > 1
            busy = state.executor[state.heap[:count, 1], BUSY] == 1
            later = now_ms + factor * (state.heap_ms[:count] - now_ms)
            state.heap_ms[:count] = np.where(busy, later, state.heap_ms[:count])
            heap_ms, heap = np.zeros(8), np.zeros((8, 2), np.int64)
            redraw_running(world, state, 3, heap_ms, heap)
            results.append((heap_ms[:count].tolist(), heap[:count].tolist()))
        assert results[0] == results[1]
