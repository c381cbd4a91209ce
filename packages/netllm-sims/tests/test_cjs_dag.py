from dataclasses import replace

import numpy as np
import pytest
from netllm_sims import cjs
from netllm_sims.cjs.dag import FIRST, FRESH, REST
from netllm_sims.cjs.tpch import prepare


def one(tasks=1, durations=(1.0,)):
    return cjs.Waves.same(tasks, durations)


def lists(dag, stage, wave, level):
    start, length, warm = dag.cells[stage, wave, cjs.LEVELS.index(level)]
    return dag.durations_ms[start : start + length].tolist(), bool(warm)


def test_levels_are_longest_paths():
    dag = cjs.build("d", [one()] * 4, [(0, 1), (1, 3), (0, 3), (2, 3)])
    assert dag.levels.tolist() == [0, 1, 0, 2]


def test_an_empty_list_falls_back_as_in_the_reference():
    waves = cjs.Waves(
        tasks=2, fresh={5: [], 10: [7.0]}, first={5: [3.0], 10: []}, rest={5: [], 10: [2.0]}
    )
    dag = cjs.build("d", [waves], [])
    assert lists(dag, 0, FRESH, 5) == ([3.0], True)  # first wave plus warm-up
    assert lists(dag, 0, REST, 5) == ([3.0], False)
    assert lists(dag, 0, FIRST, 10) == ([7.0], False)
    assert lists(dag, 0, REST, 10) == ([2.0], False)
    assert lists(dag, 0, REST, 80) == ([2.0], False)  # unknown: the largest known number
    assert dag.rough_ms.tolist() == [4.0]


def test_fresh_durations_are_taken_out_of_the_first_wave_once_each():
    waves = prepare(
        {2: [5, 6], 10: [4, 4], 5: [9]}, {2: [5, 5, 6], 10: [4, 4], 5: [9, 8]}, {2: [1, 2]}
    )
    assert waves.tasks == 5  # of the first key, before cleaning
    assert waves.first == {2: [5], 5: [8], 10: [8]}  # an empty list takes the next smaller number's


@pytest.mark.parametrize(
    ("stages", "edges", "message"),
    [
        ([], [], "at least one stage"),
        ([one(0)], [], "Stage 0 of `d` must have at least one task, .* got 0"),
        ([one(2**31)], [], "Stage 0 of `d` must .* at most 2147483647, got 2147483648"),
        ([one(-(10**30))], [], "Stage 0 of `d` must .*, got -1000"),
        ([one(10**400)], [], "Stage 0 of `d` must .* at most 2147483647, got 1000"),
        ([one(), one(1, [3.0, -2.0])], [], r"stage 1 of `d` must be finite and >= 0 ms, got -2"),
        ([one(1, [float("nan")])], [], "got nan"),
        ([one(1, [])], [], "at least one known duration"),
        ([one(), one()], [(0, 2)], r"\(0, 2\) of `d` leads to nowhere: the stages are 0 to 1"),
        ([one()] * 3, [(0, 1), (1, 2), (2, 1)], "no cycle, but stages 1, 2 wait"),
        ([one()] * 5, [(2, 1), (1, 2), (2, 3), (0, 2), (3, 4)], "but stages 1, 2 wait"),
        ([one()], [(0, 0)], "no cycle, but stages 0 wait"),
        ([one()] * 2, [(0.5, 1)], r"Edge \(0\.5, 1\) of `d` must be a pair of whole numbers"),
        ([one()] * 2, [(0, 10**30)], rf"Edge \(0, {10**30}\) of `d` must be a pair of whole"),
        ([one()] * 2, [(0, 1, 1, 0)], r"Edge \(0, 1, 1, 0\) of `d` must be a pair"),
        ([one(2.7)], [], "Stage 0 of `d` must have a whole number of tasks, .* got 2.7"),
        (
            [cjs.Waves(tasks=1, fresh={5: [1.0]}, first={}, rest={})],
            [],
            "`first` of stage 0 of `d`",
        ),
    ],
)
def test_a_wrong_graph_says_what_is_wrong(stages, edges, message):
    with pytest.raises(ValueError, match=message):
        cjs.build("d", stages, edges)


def test_a_graph_may_have_any_number_of_stages():
    dag = cjs.build("long", [one()] * 5000, [(k, k + 1) for k in range(4999)])
    setting = cjs.setting("synthetic", num_executors=2, moving_ms=0, warmup_ms=0)
    simulator = cjs.Simulator(setting, cjs.Episode(id="e", seed=0, jobs=workload(dag)))
    simulator.run(cjs.fair())
    assert simulator.jct_s.tolist() == [5.0]  # 5,000 tasks of 1 ms, one after another


def test_a_stage_may_have_as_many_tasks_as_the_simulator_counts():
    setting = cjs.setting("synthetic", num_executors=2)
    dag = cjs.build("many", [one(2**31 - 1)], [])
    jobs = workload(dag)
    seen = cjs.Simulator(setting, cjs.Episode(id="e", seed=0, jobs=jobs)).observe()
    assert seen["stages"][0, 4] == np.float32(2**31 - 1)  # its demand
    with pytest.raises(ValueError, match=r"Stage 0 of `many` must .* at most .*, got 3000000000"):
        replace(dag, tasks=np.array([3_000_000_000]))


def test_stages_are_ordered_after_their_parents_however_they_are_numbered():
    dag = cjs.build("back", [one()] * 2000, [(k + 1, k) for k in range(1999)])
    assert dag.order.tolist() == list(range(1999, -1, -1))
    assert dag.levels.tolist() == list(range(1999, -1, -1))
    two = cjs.Workload([cjs.Job(dag, 0.0), cjs.Job(dag, 1.0)])
    assert two.order.tolist() == [*range(1999, -1, -1), *range(3999, 1999, -1)]


def test_paths_of_a_chain_do_not_depend_on_its_numbers():
    """One pass: whatever the numbers, each stage adds to its child's path."""
    durations = np.random.default_rng(0).integers(1, 100, 300).tolist()
    chain = [one(1, [float(ms)]) for ms in durations]
    paths = np.cumsum(durations[::-1])[::-1].tolist()
    for stages, edges, wanted in (
        (chain, [(k, k + 1) for k in range(299)], paths),
        (chain[::-1], [(k + 1, k) for k in range(299)], paths[::-1]),
    ):
        setting = cjs.setting("synthetic", num_executors=2)
        jobs = workload(cjs.build("d", stages, edges))
        seen = cjs.Simulator(setting, cjs.Episode(id="e", seed=0, jobs=jobs)).observe()
        assert seen["stages"][:, 8].tolist() == wanted


def workload(dag):
    return cjs.Workload([cjs.Job(dag, 0.0)])


def test_jobs_come_in_order_of_arrival():
    dag = cjs.build("d", [one()], [])
    with pytest.raises(ValueError, match=r"job 1 comes at 1\.0 ms, after one at 2\.0 ms"):
        cjs.Workload([cjs.Job(dag, 2.0), cjs.Job(dag, 1.0)])
    with pytest.raises(ValueError, match="finite and >= 0, got -1"):
        cjs.Job(dag, -1.0)
    with pytest.raises(ValueError, match="at least one job"):
        cjs.Workload([])


def test_random_graphs_follow_their_seed():
    first, again, other = (cjs.random_dag(np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.durations_ms, again.durations_ms)
    assert first.edges.tolist() == again.edges.tolist()
    assert first.durations_ms.shape != other.durations_ms.shape
    assert 2 <= first.stages <= 18
    with pytest.raises(ValueError, match="got 1 and"):
        cjs.random_dag(np.random.default_rng(0), max_stages=1)
