"""The public simulator's own numbers: recorded episodes, job sequences, means over luck."""

import gzip
import json

import numpy as np
import pytest
from netllm_sims import cjs


@pytest.fixture
def cjs_data(real_data):
    if not (real_data / "cjs" / "tpch.json.gz").is_file():
        pytest.skip("NETLLM_DATA holds no profiles")
    return real_data


@pytest.fixture
def published(cjs_data):
    file = cjs_data.parent / "oracle" / "reference.json"
    if not file.is_file():
        pytest.skip(f"the published numbers are not at {file}")
    return json.loads(file.read_text())


@pytest.fixture
def recorded(cjs_data):
    file = cjs_data.parent / "oracle" / "cjs_replay_e10_c20_s0.json.gz"
    if not file.is_file():
        pytest.skip(f"the recorded episodes are not at {file}")
    with gzip.open(file, "rt") as stream:
        return json.load(stream)


def small(data, draws, *, log):
    setting = cjs.setting("default", data=data, num_executors=10, num_jobs=20)
    durations = cjs.Replay(np.array([draw[4] for draw in draws]))
    jobs = setting.workload(0)
    episode = cjs.Episode(id="recorded", seed=0, jobs=jobs, durations=durations)
    return cjs.Simulator(setting, episode, log=log)


@pytest.mark.parametrize("policy", ["fifo", "fair", "decima"])
def test_a_recorded_episode_comes_out_exactly(cjs_data, recorded, published, policy):
    record = recorded[policy]
    simulator = small(cjs_data, record["task_duration_draws"], log=True)
    rewards = [simulator.step(*action) for action in record["actions_stage_idx_num_exec"]]
    assert simulator.done
    jobs = simulator.episode.jobs

    def place(stage):
        job = int(jobs.job_of[int(stage)])
        return [job, int(stage) - int(jobs.first_stage[job])]

    tasks = [
        [*place(stage), int(executor), int(local), duration_ms, wave == 0]
        for _, duration_ms, executor, stage, local, wave, _ in simulator.task_log.tolist()
    ]
    assert tasks == record["task_duration_draws"]
    kinds = ("JOB", "EXEC", "TASK")
    events = [
        [time_ms, kinds[int(kind)], int(who), *(place(stage) if kind else [])]
        for time_ms, kind, who, stage in simulator.event_log.tolist()
    ]
    assert events == record["events"]
    rows = {(r["sched"], r["num_executors"], r["seed"]): r for r in published["cjs"]}
    summary = rows[policy, 10, 0]
    assert simulator.jct_s.tolist() == summary["jct_s_per_job"]
    assert simulator.jct_s.mean() == pytest.approx(record["avg_jct_s"], rel=1e-14)
    assert sum(rewards) == pytest.approx(summary["sum_reward_ms"], rel=1e-12)
    assert simulator.time_ms == summary["makespan_s"] * 1e3
    assert simulator.decisions == summary["decisions"]


@pytest.mark.parametrize("policy", ["fifo", "fair"])
def test_fifo_and_fair_choose_as_recorded(cjs_data, recorded, policy):
    record = recorded[policy]
    simulator = small(cjs_data, record["task_duration_draws"], log=False)
    heuristic = getattr(cjs, policy)()
    chosen = []
    while not simulator.done:
        chosen.append(list(simulator.ask(heuristic)))
        simulator.step(*chosen[-1])
    assert chosen == record["actions_stage_idx_num_exec"]
    again = small(cjs_data, record["task_duration_draws"], log=False)
    again.run(heuristic)
    assert again.jct_s.tolist() == simulator.jct_s.tolist()


def test_job_sequences_are_those_of_the_reference(cjs_data, published):
    """Tasks in all, and every completion time of the recorded episodes, depend on them."""
    catalogue = cjs.load_tpch(cjs_data / "cjs" / "tpch.json.gz")
    rows = {(r["env_seed"], r["job_arrival_cap"]): r["total_tasks"] for r in published["cjs"]}
    assert {seed for seed, _ in rows} == {0, 1, 666}
    for (seed, jobs), tasks in rows.items():
        workload = cjs.sequence(catalogue, seed, jobs)
        assert workload.tasks.sum() == tasks
        rng, arrival_ms = np.random.default_rng(seed), 0.0
        for job in workload.jobs:
            query = 1 + rng.integers(22)
            size = rng.choice(["2g", "5g", "10g", "20g", "50g", "80g", "100g"])
            assert (job.dag.name, job.arrival_ms) == (f"tpch-{size}-{query}", arrival_ms)
            arrival_ms += rng.exponential(1 / 4e-5)


def test_profiles_have_the_published_sizes(cjs_data):
    dags = cjs.load_tpch(cjs_data / "cjs" / "tpch.json.gz").dags
    stages, tasks = [dag.stages for dag in dags], [dag.tasks.sum() for dag in dags]
    assert (len(dags), min(stages), max(stages), round(np.mean(stages), 1)) == (154, 2, 18, 9.2)
    assert (min(tasks), max(tasks), round(np.mean(tasks))) == (13, 3717, 1155)


@pytest.mark.parametrize(("executors", "jobs", "seed"), [(50, 200, 666), (10, 20, 0)])
@pytest.mark.parametrize("policy", ["fifo", "fair"])
def test_own_draws_give_the_published_mean(cjs_data, published, policy, executors, jobs, seed):
    """Mean of 20 lucks within 3 sd sqrt(1/n + 1/20) of the reference's mean of n."""
    noise = published["cjs_noise"][f"{policy}_e{executors}_c{jobs}_envseed{seed}"]
    setting = cjs.setting("default", data=cjs_data, num_executors=executors, num_jobs=jobs)
    workload = setting.workload(seed)
    episodes = [
        cjs.Episode(id=f"{luck}", seed=seed, jobs=workload, durations=cjs.Sampled(luck))
        for luck in range(20)
    ]
    run = cjs.rollout(getattr(cjs, policy)(), setting, episodes)
    width = 3 * noise["sd"] * np.sqrt(1 / len(noise["avg_jct_s"]) + 1 / 20)
    assert abs(run.jct_s.mean() - noise["mean"]) < width
