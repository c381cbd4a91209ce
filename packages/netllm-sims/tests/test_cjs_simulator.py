"""Small clusters, followed by hand."""

import numpy as np
import pytest
from netllm_sims import cjs

MOVE_MS, WARM_MS = 2000.0, 1000.0


def simulator(*jobs, executors=2, log=True, durations=None, **changes):
    numbers = {"num_executors": executors, "moving_ms": MOVE_MS, "warmup_ms": WARM_MS, **changes}
    setting = cjs.setting("synthetic", **numbers)
    durations = durations or cjs.Sampled()
    episode = cjs.Episode(id="e", seed=0, jobs=cjs.Workload(jobs), durations=durations)
    return cjs.Simulator(setting, episode, log=log)


def chain(*stages, edges=None):
    """Stages (tasks, fresh, first, rest), by default one after another."""
    waves = [
        cjs.Waves(tasks=n, fresh={5: [fresh]}, first={5: [first]}, rest={5: [rest]})
        for n, fresh, first, rest in stages
    ]
    pairs = [(k, k + 1) for k in range(len(stages) - 1)] if edges is None else edges
    return cjs.build("chain", waves, pairs)


def test_a_job_of_two_stages_by_hand():
    """Three tasks on two executors, then one: 2,000 ms on the way, each wave's own duration."""
    run = simulator(cjs.Job(chain((3, 100.0, 50.0, 10.0), (1, 100.0, 50.0, 10.0)), 0.0))
    assert run.step(0, 2) == -2100.0  # both arrive, both fresh tasks end, one executor is released
    # executor 0 takes the third task, 1 is free; both may be committed, for the second stage's
    # parent has no demand left
    assert run.time_ms == 2100.0
    assert run.schedulable.tolist() == [1]
    assert run.committable == 2
    run.step(-1, 1)
    # the third task took 10 ms (rest); it unlocked the second stage for both idle executors
    assert run.time_ms == 2110.0
    assert run.committable == 2
    run.step(0, 1)
    assert run.done
    # executor 0 had been committed, to nothing, when its task ended: so it does not count as idle
    start, duration, _, stage, local, wave, number = run.task_log[-1]
    assert (start, duration, stage, local, wave, number) == (2110.0, 50.0, 1.0, 2.0, 2.0, 0.0)
    assert run.jct_s.tolist() == [2.16]
    assert run.utilisation == (100 + 100 + 10 + 50) / (2 * 2160.0)


def test_an_executor_without_commitment_starts_the_next_stage_afresh():
    run = simulator(
        cjs.Job(chain((2, 100.0, 50.0, 10.0), (1, 900.0, 50.0, 10.0), edges=[]), 0.0), executors=1
    )
    run.step(0, 1)
    assert run.time_ms == 2110.0  # fresh 100, rest 10, then nothing is committed
    run.step(0, 1)
    assert run.task_log[-1, 1] == 900.0


def test_executors_left_idle_in_a_jobs_pool_are_offered_again():
    """All wait in the first job's pool when the second arrives: the reference stops for ever."""
    dag = chain((1, 100.0, 50.0, 10.0), (1, 100.0, 50.0, 10.0), edges=[])
    run = simulator(cjs.Job(dag, 0.0), cjs.Job(dag, 9000.0), executors=1)
    run.step(0, 1)
    run.step(-1, 1)  # one stage is left, but the executor stays idle
    assert run.time_ms == 9000.0
    assert run.schedulable.tolist() == [1, 2, 3]
    run.run(cjs.fair())
    assert np.isfinite(run.jct_s).all()


def test_without_fresh_durations_the_warm_up_is_added():
    dag = cjs.build("d", [cjs.Waves(tasks=1, fresh={}, first={5: [30.0]}, rest={})], [])
    run = simulator(cjs.Job(dag, 0.0), executors=1)
    run.step(0, 1)
    assert run.jct_s.tolist() == [(MOVE_MS + WARM_MS + 30.0) * 1e-3]


def levels(executors, interpolation, lucks=400):
    """Share of tasks at the level 20 for so many executors, between 20 and 40."""
    waves = cjs.Waves(tasks=executors, fresh={}, first={20: [0.0], 40: [1.0]}, rest={})
    jobs = cjs.Workload([cjs.Job(cjs.build("d", [waves], []), 0.0)])
    setting = cjs.setting(
        "synthetic", num_executors=executors, warmup_ms=0, interpolation=interpolation
    )
    last = []
    for luck in range(lucks):
        episode = cjs.Episode(id="e", seed=0, jobs=jobs, durations=cjs.Sampled(luck))
        run = cjs.Simulator(setting, episode, log=True)
        run.step(0, executors)
        last.append(run.task_log[-1])
    assert {row[4] for row in last} == {float(executors)}
    return np.mean([row[1] == 0.0 for row in last])


def test_the_reference_takes_the_far_level_more_often_near_a_level():
    """P(left) = (n - left) / (right - left) = 0.05 for 21 (ORACLES, fault C1); correct is 0.95."""
    assert levels(21, "reference") == pytest.approx(0.05, abs=0.04)
    assert levels(21, "correct") == pytest.approx(0.95, abs=0.04)
    assert levels(35, "reference") == pytest.approx(0.75, abs=0.07)
    assert levels(35, "correct") == pytest.approx(0.25, abs=0.07)


def splitmix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def uniforms(luck, job, stage, number):
    """The two uniforms of a task, in plain Python."""
    golden = 0x9E3779B97F4A7C15
    z = splitmix((luck + (job + 1) * golden) % 2**64)
    z = splitmix((z + (stage << 32 | number)) % 2**64)
    return (z >> 11) * 2.0**-53, (splitmix((z + golden) % 2**64) >> 11) * 2.0**-53


@pytest.mark.parametrize("luck", [0, 7, -1, 2**63])
def test_every_policy_has_the_same_luck(luck):
    """A duration depends on job, stage and number only: here the index floor(u · length)."""
    lists = [float(k) for k in range(1000)]
    dag = cjs.build("d", [cjs.Waves.same(30, lists), cjs.Waves.same(20, lists)], [(0, 1)])
    jobs = [cjs.Job(dag, 0.0), cjs.Job(dag, 500.0), cjs.Job(dag, 700.0)]
    for heuristic in (cjs.fifo(), cjs.fair()):
        run = simulator(*jobs, executors=4, durations=cjs.Sampled(luck), warmup_ms=0)
        run.run(heuristic)
        assert len(run.task_log) == 150
        for _, duration_ms, _, stage, _, _, number in run.task_log.tolist():
            job, local = divmod(int(stage), 2)
            _, v = uniforms(luck % 2**64, job, local, int(number))
            assert duration_ms == int(v * 1000)


def test_jobs_that_come_together_are_all_known_at_the_first_decision():
    dag = chain((1, 1.0, 1.0, 1.0))
    assert simulator(cjs.Job(dag, 0.0), cjs.Job(dag, 0.0)).schedulable.tolist() == [0, 1]
    later = simulator(cjs.Job(dag, 40.0))
    assert (later.time_ms, later.schedulable.tolist()) == (40.0, [0])


def test_a_copy_goes_on_by_itself():
    setting = cjs.setting("synthetic", num_jobs=20, num_executors=10)
    run = cjs.Simulator(setting, setting.episodes("test", episodes=1)[0])
    heuristic = cjs.fair()
    for _ in range(40):
        run.step(*run.ask(heuristic))
    twin = run.copy()
    seen = run.observe()
    twin.run(heuristic)
    for name, value in run.observe().items():
        np.testing.assert_array_equal(value, seen[name])
    run.run(heuristic)
    assert twin.jct_s.tolist() == run.jct_s.tolist()


def test_a_wrong_choice_is_refused_and_changes_nothing():
    dag = chain((3, 1.0, 1.0, 1.0))
    run = simulator(cjs.Job(dag, 0.0))
    for action, message in [
        ((1, 1), "one of the 1 schedulable stages, got 1"),
        ((-2, 1), "got -2"),
        ((0, 0), "between 1 and 2, got 0"),
        ((0, 3), "between 1 and 2, got 3"),
        ((-1, 1), "nothing else would ever happen"),
    ]:
        with pytest.raises(ValueError, match=message):
            run.step(*action)
    assert run.decisions == 0
    assert not run.can_wait
    run.run(cjs.fair())
    with pytest.raises(RuntimeError, match="Call `reset`"):
        run.step(0, 1)


def test_recorded_durations_must_fit_the_tasks():
    dag = chain((3, 1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="each of its 3 tasks, got 2"):
        simulator(cjs.Job(dag, 0.0), durations=cjs.Replay(np.ones(2)))
    with pytest.raises(ValueError, match="finite durations >= 0"):
        cjs.Replay(np.array([1.0, -1.0]))
    run = simulator(cjs.Job(dag, 0.0), executors=1, durations=cjs.Replay(np.array([5.0, 6.0, 7.0])))
    run.run(cjs.fair())
    assert run.jct_s.tolist() == [(MOVE_MS + 18) * 1e-3]


def test_more_jobs_may_be_begun_than_pools_have_room_for_their_history():
    """One executor begins 1,100 jobs before it ends any; all are finished all the same."""
    dag = chain((1, 1.0, 1.0, 1.0), (1, 1.0, 1.0, 1.0), edges=[])
    run = simulator(*[cjs.Job(dag, 0.0)] * 1100, executors=1, log=False, moving_ms=0, warmup_ms=0)
    while not run.done:
        fresh = np.flatnonzero(run.schedulable % 2 == 0)
        run.step(int(fresh[0]) if len(fresh) else 0, 1)
    assert sorted(run.jct_s.round(6)) == [round(1.1 + 0.001 * k, 6) for k in range(1, 1101)]


def test_of_two_executors_the_second_is_slow():
    """Tasks of 100 ms: three on the fast executor until 300 ms, one on the slow one until then."""
    still = {"moving_ms": 0.0, "warmup_ms": 0.0}
    job = cjs.Job(chain((4, 100.0, 100.0, 100.0)), 0.0)
    run = simulator(job, slow_executors=1, slow_factor=3, **still)
    run.run(cjs.fair())
    assert run.jct_s.tolist() == [0.3]
    durations = {(executor, ms) for ms, executor in run.task_log[:, 1:3].tolist()}
    assert durations == {(0.0, 100.0), (1.0, 300.0)}
    assert run.utilisation == 1


def test_slow_executors_are_spread_evenly_and_as_many_as_named():
    for executors, slow, expected in (
        (4, 2, [1, 3, 1, 3]),
        (5, 1, [1, 1, 1, 1, 3]),
        (3, 3, [3] * 3),
    ):
        run = simulator(
            cjs.Job(chain((1, 1.0, 1.0, 1.0)), 0.0),
            executors=executors,
            slow_executors=slow,
            slow_factor=3,
        )
        assert run.world.slowness.tolist() == expected


def test_what_is_seen_of_a_slow_executor_is_how_long_its_task_takes():
    job = cjs.Job(chain((9, 100.0, 100.0, 100.0)), 0.0)
    run = simulator(job, executors=1, slow_executors=1, slow_factor=5)
    run.step(0, 1)
    assert run.done
    assert set(run.task_log[:, 1]) == {500.0}
    other = simulator(job, cjs.Job(job.dag, 9e6), executors=1, slow_executors=1, slow_factor=5)
    other.step(0, 1)
    assert other.state.recent_ms.tolist() == [500.0, 100.0]


def test_executors_that_are_slow_by_a_factor_of_one_change_nothing():
    plain = cjs.setting("synthetic", num_jobs=12, num_executors=8)
    same = cjs.setting("synthetic", num_jobs=12, num_executors=8, slow_executors=5, slow_factor=1)
    episodes = plain.episodes("test", episodes=2)
    for one, other in zip(
        cjs.rollout(cjs.fair(), plain, episodes).job_jct_s,
        cjs.rollout(cjs.fair(), same, episodes).job_jct_s,
        strict=True,
    ):
        assert one.tolist() == other.tolist()


def test_recorded_durations_are_what_was_recorded_on_slow_executors_too():
    recorded = cjs.Replay(np.array([70.0, 80.0]))
    job = cjs.Job(chain((2, 1.0, 1.0, 1.0)), 0.0)
    run = simulator(job, executors=1, durations=recorded, slow_executors=1)
    run.run(cjs.fair())
    assert run.task_log[:, 1].tolist() == [70.0, 80.0]
