"""The generator against what was published of the trace it stands for."""

import numpy as np
import pytest
from netllm_sims import cjs


@pytest.fixture(scope="module")
def dags():
    return cjs.setting("alibaba").catalogue.dags


def test_sizes_are_those_of_the_trace(dags):
    """38 % of the jobs have one stage, 95 % at most 10, and the mean is 3.4."""
    stages = np.array([dag.stages for dag in dags])
    assert np.mean(stages == 1) == pytest.approx(0.383, abs=0.04)
    assert np.mean(stages <= 10) == pytest.approx(0.949, abs=0.02)
    assert stages.mean() == pytest.approx(3.38, rel=0.1)


def test_depths_are_those_of_the_trace(dags):
    """Mean stages of the longest path, by size; 73 % of all jobs are nothing but such a path."""
    stages = np.array([dag.stages for dag in dags])
    depth = np.array([1 + dag.levels.max() for dag in dags])
    for size, mean in ((2, 1.98), (3, 2.75), (4, 3.37), (5, 3.69)):
        assert depth[stages == size].mean() == pytest.approx(mean, abs=0.2)
    assert np.mean(depth == stages) == pytest.approx(0.734, abs=0.04)


def test_tasks_and_durations_are_those_of_the_trace(dags):
    """Two thirds of the stages have one task, a tenth more than 46; half take at most 4.8 s."""
    tasks = np.concatenate([dag.tasks for dag in dags])
    seconds = np.concatenate([dag.rough_ms for dag in dags]) / 1e3
    assert np.mean(tasks == 1) == pytest.approx(0.662, abs=0.03)
    assert np.mean(tasks > 46) == pytest.approx(0.1, abs=0.02)
    assert tasks.max() <= 844
    assert np.median(seconds) == pytest.approx(4.78, abs=0.6)
    assert np.mean(seconds > 96) == pytest.approx(0.1, abs=0.02)
    assert 0 <= seconds.min() < seconds.max() <= 603


def test_stages_wait_for_the_level_above_and_few_for_two(dags):
    for dag in dags:
        level = dag.levels
        parent, child = dag.edges.T
        assert (level[child] == level[parent] + 1).all()
        assert len(set(map(tuple, dag.edges.tolist()))) == len(dag.edges)
        assert (np.bincount(child, minlength=dag.stages) > 0).tolist() == (level > 0).tolist()
    assert sum(len(dag.edges) for dag in dags) < sum(dag.stages for dag in dags)


def test_the_setting_needs_no_data_and_takes_the_trace_itself_as_any_other(no_data, tmp_path):
    setting = cjs.setting("alibaba", num_jobs=5)
    assert setting.synthetic
    again = cjs.setting("alibaba", num_jobs=5)
    assert setting.workload(666).digest == again.workload(666).digest
    file = tmp_path / "batch_task.csv"
    file.write_text("M1,1,j,1,Terminated,1,2,1,1\n")
    own = cjs.setting("alibaba", jobs=file, num_jobs=5)
    assert not own.synthetic
    assert {job.dag.name for job in own.workload(666).jobs} == {"j"}
