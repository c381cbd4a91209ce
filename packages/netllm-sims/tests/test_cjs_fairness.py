import numpy as np
import pytest
from netllm_sims import cjs

STILL = {"moving_ms": 0, "warmup_ms": 0}


def graph(name, *stages):
    """A chain of stages, each of so many tasks that take so many ms."""
    waves = [cjs.Waves.same(tasks, [ms]) for tasks, ms in stages]
    return cjs.build(name, waves, [(k, k + 1) for k in range(len(stages) - 1)])


def ended(jobs, policy, durations=None, **numbers):
    setting = cjs.setting("synthetic", **numbers)
    episode = cjs.Episode(
        id="e", seed=0, jobs=cjs.Workload(jobs), durations=durations or cjs.Sampled()
    )
    simulator = cjs.Simulator(setting, episode)
    simulator.run(policy)
    return simulator


def test_of_two_equal_jobs_on_one_executor_the_second_takes_twice_as_long():
    """Slowdowns 1 and 2: (1 + 2)² / (2 (1² + 2²)) = 0.9."""
    jobs = [cjs.Job(graph("a", (1, 100.0)), 0.0), cjs.Job(graph("b", (1, 100.0)), 0.0)]
    simulator = ended(jobs, cjs.fifo(), num_executors=1, **STILL)
    assert simulator.jct_s.tolist() == [0.1, 0.2]
    assert cjs.alone_s(simulator.setting, simulator.episode).tolist() == [0.1, 0.1]
    assert cjs.fairness(simulator) == pytest.approx(0.9)


def test_a_job_alone_takes_what_it_takes_where_no_other_comes():
    jobs = [
        cjs.Job(graph("wide", (9, 700.0), (1, 300.0)), 0.0),
        cjs.Job(graph("long", (1, 100.0), (2, 50.0), (30, 20.0)), 1.0),
        cjs.Job(graph("short", (1, 5.0)), 2.0),
    ]
    simulator = ended(jobs, cjs.fair(), num_executors=4)
    alone = [float(ended([cjs.Job(job.dag, 0.0)], cjs.fair(), num_executors=4).jct_s[0])
             for job in jobs]  # fmt: skip
    found = cjs.alone_s(simulator.setting, simulator.episode)
    np.testing.assert_allclose(found, alone, rtol=1e-9)


def test_jobs_of_real_shapes_never_meet_when_they_are_alone():
    """Their times do not depend on the order in which they come."""
    setting = cjs.setting("synthetic", num_jobs=20)
    episode = setting.episodes("test", episodes=1)[0]
    dag = episode.jobs.jobs[7].dag
    both = [cjs.Job(dag, 0.0), *episode.jobs.jobs[:7], cjs.Job(dag, 1e9)]
    same = cjs.Episode(id="e", seed=0, jobs=cjs.Workload(both))
    alone = cjs.alone_s(setting, same)
    assert alone[0] == pytest.approx(alone[-1], rel=0.2)  # but for their luck
    assert (cjs.alone_s(setting, episode) > 0).all()


def test_a_job_that_never_waits_is_as_fast_as_alone():
    jobs = [cjs.Job(graph("a", (3, 100.0)), 0.0), cjs.Job(graph("b", (5, 70.0)), 1e6)]
    simulator = ended(jobs, cjs.fair(), num_executors=2)
    assert cjs.fairness(simulator) == pytest.approx(1)


def test_tasks_that_take_no_time_slow_nobody_down():
    jobs = [cjs.Job(graph("nothing", (3, 0.0)), 0.0)] * 2
    assert cjs.fairness(ended(jobs, cjs.fair(), num_executors=2, **STILL)) == 1


def test_recorded_durations_are_drawn_anew_for_a_job_alone():
    jobs = [cjs.Job(graph("a", (2, 100.0)), 0.0)]
    recorded = cjs.Replay(np.array([900.0, 900.0]))
    simulator = ended(jobs, cjs.fair(), recorded, num_executors=1, **STILL)
    assert simulator.jct_s[0] == pytest.approx(1.8)
    assert cjs.alone_s(simulator.setting, simulator.episode)[0] == pytest.approx(0.2)


def test_a_rollout_tells_the_fairness_of_each_episode():
    setting = cjs.setting("synthetic", num_jobs=12, num_executors=8)
    episodes = setting.episodes("test", episodes=2)
    run = cjs.rollout(cjs.fifo(), setting, episodes)
    for one, episode in zip(run.fairness, episodes, strict=True):
        simulator = cjs.Simulator(setting, episode)
        simulator.run(cjs.fifo())
        assert one == cjs.fairness(simulator)
        assert 1 / 12 <= one <= 1
