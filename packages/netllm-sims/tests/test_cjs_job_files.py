import gzip
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from netllm_sims import cjs
from netllm_sims.cjs.job_files.alibaba import load_alibaba
from netllm_sims.cjs.job_files.decima_arrays import load_upstream
from netllm_sims.cjs.job_files.loading import load_dags
from netllm_sims.cjs.job_files.spark import load_spark

LOG = Path(__file__).parent / "data" / "spark_local.jsonl"
"""Made by tools/spark_log.py from Spark 4.3 in local mode with four cores."""


def test_a_log_of_real_spark_gives_its_jobs():
    dags = load_dags(LOG)
    assert [dag.tasks.tolist() for dag in dags] == [
        [16, 12, 1], [16, 4, 12, 12], [12, 7], [8, 6], [6], [6, 6],
    ]  # fmt: skip
    assert dags[1].edges.tolist() == [[0, 2], [1, 2], [2, 3]]  # a join, then an aggregation
    launched = [json.loads(line) for line in LOG.read_text().splitlines()]
    ends = [e["Task Info"] for e in launched if e["Event"] == "SparkListenerTaskEnd"]
    whole_ms = sum(info["Finish Time"] - info["Launch Time"] for info in ends)
    found_ms = 0.0
    for dag in dags:
        for stage in range(dag.stages):
            places = {tuple(cell[:2]) for cell in dag.cells[stage].reshape(-1, 3).tolist()}
            found_ms += sum(dag.durations_ms[a : a + n].sum() for a, n in places)
    assert found_ms == whole_ms


def test_jobs_of_a_log_run_in_the_simulator():
    setting = cjs.setting("default", jobs=LOG, num_jobs=12, num_executors=4)
    assert not setting.synthetic
    run = cjs.rollout(cjs.fair(), setting, setting.episodes("test", episodes=2))
    assert np.isfinite(run.jct_s).all()


def spark(tmp_path, *events, tail="\n"):
    file = tmp_path / "app-1"
    file.write_text("\n".join(json.dumps(event) for event in events) + tail)
    return file


def job(*stages, number=0):
    infos = [
        {"Stage ID": stage, "Number of Tasks": tasks, "Parent IDs": parents}
        for stage, tasks, parents in stages
    ]
    return {"Event": "SparkListenerJobStart", "Job ID": number, "Stage Infos": infos}


def task(stage, launch, finish, executor="1", **more):
    info = {"Launch Time": launch, "Finish Time": finish, "Executor ID": executor, **more}
    return {"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task Info": info}


def completed(stage):
    return {"Event": "SparkListenerStageCompleted", "Stage Info": {"Stage ID": stage}}


def ended(number=0, result="JobSucceeded"):
    return {
        "Event": "SparkListenerJobEnd", "Job ID": number, "Job Result": {"Result": result},
    }  # fmt: skip


def whole(number=0, stage=0, **more):
    """Events of a job of one stage with one task."""
    return [
        job((stage, 1, []), number=number), task(stage, 0, 5, **more), completed(stage),
        ended(number),
    ]  # fmt: skip


def test_waves_follow_the_cores_of_an_executor(tmp_path):
    file = spark(
        tmp_path,
        job((0, 3, []), (1, 2, [0]), (2, 1, [0])),  # stage 2 is skipped
        task(0, 0, 50), task(0, 0, 70), task(0, 50, 90),
        task(0, 60, 65, Failed=True),
        completed(0),
        task(1, 90, 100), task(1, 90, 101),
        completed(1),
        ended(),
    )  # fmt: skip
    (dag,) = load_spark(file)
    assert dag.tasks.tolist() == [3, 2]
    assert dag.edges.tolist() == [[0, 1]]

    def durations(stage, wave):
        start, length, warm = dag.cells[stage, wave, 0]
        return sorted(dag.durations_ms[start : start + length].tolist()), warm

    assert durations(0, 0) == ([50.0, 70.0], 0)  # fresh: the first on each core
    assert durations(0, 1) == ([40.0], 0)  # rest
    assert durations(1, 2) == ([10.0, 11.0], 0)  # first in this stage, on known cores


def test_a_parent_that_is_named_twice_is_one(tmp_path):
    events = [job((0, 1, []), (1, 1, [0, 0])), *(task(stage, 0, 1) for stage in (0, 1))]
    (dag,) = load_spark(spark(tmp_path, *events, completed(0), completed(1), ended()))
    assert dag.edges.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("events", "tail", "message"),
    [
        (
            [job((0, 1, []))],
            '\n{"Event": "SparkListenerTask',
            r"app-1:2: must be JSON, .* it was cut",
        ),
        ([[1, 2]], "\n", r"app-1, line 1: must be a JSON object with the field `Event`"),
        ([{"Event": "SparkListenerJobStart", "Job ID": 0}], "\n", r"line 1: .* `Stage Infos`"),
        ([job((0, 1, [])), {**task(0, 0, 1), "Task Info": {}}], "\n", r"line 2: .*`Launch Time`"),
        ([job((0, 1, [])), task(0, 5, 1)], "\n", r"line 2: .* must not finish before its launch"),
        ([job((0, 0, []))], "\n", r"line 1: stage 0 must have at least one task, .* got 0"),
        ([job((0, 2**31, []))], "\n", r"line 1: stage 0 must .* at most 2147483647, got 2147"),
        ([job((0, 1, []))], "\n", r"at least one job whose stages completed"),
        ([job((0, 1, [])), job((1, 1, []))], "\n", r"line 2: .* start once, but 0 starts again"),
        ([job((0, 1, [7]))], "\n", r"line 1: stage 0 of job 0 names the parent 7"),
        ([{**job(), "Stage Infos": None}], "\n", r"line 1: `Stage Infos` must be a list, got None"),
        (
            [job((0, "3", []))],
            "\n",
            r"line 1: `Number of Tasks` must be a whole number >= 0, got '3'",
        ),
        ([job((0, 1, None))], "\n", r"line 1: `Parent IDs` must be a list of whole numbers"),
        ([job((0, 1, ["1"]))], "\n", r"line 1: `Parent IDs` must be a list of whole .*'1'"),
        ([job(([1], 1, []))], "\n", r"line 1: `Stage ID` must be a whole number >= 0, got \[1\]"),
        ([task(0, None, 1)], "\n", r"line 1: `Launch Time` must be a whole number >= 0, got None"),
        ([task(0, float("nan"), 1)], "\n", r"app-1:1: numbers must be finite .*, got 'NaN'"),
        ([task([1], 0, 1)], "\n", r"line 1: `Stage ID` must be a whole number >= 0, got \[1\]"),
        ([{"Event": ["a"]}], "\n", r"line 1: `Event` must be text, got \['a'\]"),
        (
            [
                job((3, 1, [])),
                job((4, 1, []), (6, 1, [8]), (8, 1, [6]), (9, 1, [4, 8]), number=1),
                *(task(stage, 0, 1) for stage in (4, 6, 8, 9)),
                *(completed(stage) for stage in (4, 6, 8, 9)),
                ended(1),
            ],
            "\n",
            r"app-1, line 2: the stages of job 1 must form no cycle, but stages 6, 8 wait",
        ),
    ],
)
def test_a_faulty_log_names_file_and_line(tmp_path, events, tail, message):
    with pytest.raises(ValueError, match=message):
        load_spark(spark(tmp_path, *events, tail=tail))


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ([job((1, 2, []), number=1), task(1, 5, 9), completed(1)], "1 that never ended"),
        ([job((1, 2, []), number=1), completed(1), ended(1)], "without any task that succeeded"),
        ([*whole(1, 1)[:3], ended(1, "JobFailed")], "1 that failed"),
        ([ended(1)], "1 that ended but never started"),
    ],
)
def test_a_job_that_is_not_whole_is_left_out_with_a_note(tmp_path, caplog, rest, why):
    (dag,) = load_spark(spark(tmp_path, *whole(), *rest))
    assert dag.name == "app-1-job-0"
    (note,) = caplog.messages
    assert "app-1: 1 of 2 jobs were left out: 1 that " in note
    assert why in note
    with pytest.raises(ValueError, match=f"app-1: must hold .* ended, got .*{re.escape(why)}"):
        load_spark(spark(tmp_path, *rest))


def test_a_rolled_log_is_read_in_numeric_order(tmp_path):
    lines = [json.dumps(event) + "\n" for event in [*whole(0, 0), *whole(1, 1)]]
    log = tmp_path / "eventlog_v2_app"
    log.mkdir()
    (log / "appstatus_app.inprogress").touch()
    for number in range(1, 9):
        (log / f"events_{number}_app").write_text(lines[number - 1])
    (log / "events_9_app").touch()
    (log / "events_10_app").touch()
    assert [dag.name for dag in load_dags(log)] == [f"eventlog_v2_app-job-{k}" for k in (0, 1)]
    (tmp_path / "single").write_text("".join(lines))
    (tmp_path / "appstatus_x").touch()
    assert len(load_dags(tmp_path)) == 4
    (log / "events_3_app").rename(log / "events_11_app")
    with pytest.raises(ValueError, match=r"app: must hold all files .* events_3_… is missing"):
        load_dags(log)
    (log / "events_4_app.compact").write_text("".join(lines[:4]))
    (log / "events_11_app").unlink()
    assert len(load_dags(log)) == 2  # the compact file stands for the first four


def test_a_gzipped_log_is_read_and_other_compression_says_what_to_do(tmp_path):
    file = spark(tmp_path, *whole())
    packed = gzip.compress(file.read_bytes())
    file.write_bytes(packed)
    assert len(load_spark(file)) == 1
    file.write_bytes(packed[:-20])
    with pytest.raises(ValueError, match="app-1: the packing breaks after"):
        load_spark(file)
    for start, codec in ((b"\x28\xb5\x2f\xfd\0", "zstd"), (b"LZ4Block\x16", "lz4")):
        file.write_bytes(start)
        with pytest.raises(ValueError, match=f"app-1: .* by {codec}.*eventLog.compress=false"):
            load_spark(file)


ALIBABA = """\
M1,2,j_1,1,Terminated,100,130,100,0.5
R2_1,3,j_1,1,Terminated,130,140,100,0.5
J3_1_2,1,j_1,1,Terminated,140,145,100,0.5
task_xyz,4,j_2,1,Terminated,90,95,100,0.5
M1,1,j_3,1,Failed,90,95,100,0.5
M1,1,j_4,1,Terminated,90,0,100,0.5
"""


def test_names_of_alibabas_tasks_are_the_graph(tmp_path):
    file = tmp_path / "batch_task.csv"
    file.write_text(ALIBABA)
    jobs = load_alibaba(file).jobs
    assert [(job.dag.name, job.arrival_ms) for job in jobs] == [("j_2", 0.0), ("j_1", 10_000.0)]
    dag = jobs[1].dag
    assert dag.tasks.tolist() == [2, 3, 1]
    assert dag.edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert dag.rough_ms.tolist() == [30_000.0, 10_000.0, 5_000.0]
    assert [dag.name for dag in load_dags(file)] == ["j_2", "j_1"]


def test_the_numbers_of_alibabas_tasks_may_have_any_length(tmp_path):
    file, long = tmp_path / "batch_task.csv", "7" * 5000
    row = "1,j,1,Terminated,1,2,1,1"
    file.write_text(f"M0{long},{row}\nR02_{long},{row}\nJ3_2_00{long},{row}\n")
    assert load_alibaba(file).jobs[0].dag.edges.tolist() == [[0, 1], [1, 2], [0, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("M1,2,j_1,1,Terminated,100\n", r"csv, line 1: must hold the 9 columns .* got 6"),
        ("M1,x,j_1,1,Terminated,1,2,1,1\n", r"csv, line 1: .* must be numbers, got 'x'"),
        ("M1,0,j_1,1,Terminated,1,2,1,1\n", r"csv, line 1: .* at least one task"),
        (f"M1,{10**30},j_1,1,Terminated,1,2,1,1\n", r"csv, line 1: .* at most 2147483647, got"),
        (f"M1,{'9' * 5000},j_1,1,Terminated,1,2,1,1\n", r"csv, line 1: .* must be numbers"),
        (f"R2_{'9' * 5000},1,j_1,1,Terminated,1,2,1,1\n", r"csv, line 1: task .* parent 999"),
        ("R2_1,1,j_1,1,Terminated,1,2,1,1\n", r"csv, line 1: task `R2_1` .* parent 1"),
        (
            "".join(
                f"{name},1,j,1,Terminated,1,2,1,1\n" for name in ("M4_2", "M3", "M1_2", "R2_3_1")
            ),
            r"csv, line 3: the tasks of job `j` must form no cycle, but `M1_2` \(line 3\), "
            r"`R2_3_1` \(line 4\) wait",
        ),
        ("", "at least one job"),
        (
            "M1,1,j,1,Terminated,1,2,1,1\nR1,1,j,1,Terminated,1,2,1,1\n",
            r"csv, line 2: task `R1` of job `j` must have a number of its own, but `M1` in line 1",
        ),
        (
            "M1,1,j,1,Terminated,5,2,1,1\n",
            r"got 1 with a task that ends before it starts \(line 1\)",
        ),
    ],
)
def test_a_faulty_csv_names_file_and_line(tmp_path, text, message):
    file = tmp_path / "batch_task.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_alibaba(file)


def test_jobs_that_are_left_out_are_counted_with_their_first_lines(tmp_path, caplog):
    file = tmp_path / "batch_task.csv"
    rows = ("90,80", "nan,5", "-5,5", "80,70", ",5", "1,inf")
    broken = "".join(f"M1,1,x_{k},1,Terminated,{row},1,1\n" for k, row in enumerate(rows))
    file.write_text(ALIBABA + broken, encoding="utf-8-sig")
    assert [job.dag.name for job in load_alibaba(file).jobs] == ["j_2", "j_1"]
    (note,) = caplog.messages
    assert note.endswith(
        "batch_task.csv: 8 of 10 jobs were left out: 1 with a task that is not `Terminated` "
        "(line 5), 3 with a task whose start_time or end_time is missing, or start_time negative "
        "(line 6), 2 with a task that ends before it starts (line 7), 2 with a task whose "
        "start_time or end_time is not finite (line 8)."
    )


@pytest.mark.parametrize("content", [ALIBABA.encode("utf-16"), b"\xff\x00\x01" * 9])
def test_a_csv_that_is_no_text_names_the_file(tmp_path, content):
    file = tmp_path / "batch_task.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"batch_task\.csv, after line 0: must be CSV in UTF-8"):
        load_alibaba(file)


def published(folder, query, stages, matrix):
    np.save(folder / f"adj_mat_{query}.npy", np.array(matrix))
    np.save(folder / f"task_duration_{query}.npy", np.array(stages, object))


def test_pickled_profiles_are_read_as_the_json_ones(tmp_path, cjs_profile):
    size, query, entry = cjs_profile
    waves = ("fresh_durations", "first_wave", "rest_wave")
    stages = {
        k: {wave: dict(stage[wave]) for wave in waves} for k, stage in enumerate(entry["stages"])
    }
    matrix = np.zeros((len(stages), len(stages)), int)
    for parent, child in entry["edges"]:
        matrix[parent, child] = 1
    (tmp_path / size).mkdir()
    published(tmp_path / size, query, stages, matrix)
    (dag,) = load_dags(tmp_path)
    wanted = next(
        d for d in cjs.setting("default").catalogue.dags if d.name == f"tpch-{size}-{query}"
    )
    assert dag.name == f"{size}-{query}"
    np.testing.assert_array_equal(dag.durations_ms, wanted.durations_ms)
    np.testing.assert_array_equal(dag.cells, wanted.cells)
    assert sorted(dag.edges.tolist()) == sorted(wanted.edges.tolist())


@pytest.fixture
def cjs_profile(real_data):
    with gzip.open(real_data / "cjs" / "tpch.json.gz", "rt") as stream:
        return "2g", "7", json.load(stream)["2g"]["7"]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    published(tmp_path, 1, {0: Evil()}, [[0]])
    with pytest.raises(ValueError, match=r"task_duration_1\.npy: .* asks for `(posix|nt)\.mkdir`"):
        load_upstream(tmp_path)
    assert not (tmp_path / "harm").exists()


STAGE = {"fresh_durations": {5: [1.0]}, "first_wave": {5: [1.0, 2.0]}, "rest_wave": {5: []}}


@pytest.mark.parametrize(
    ("stages", "matrix", "message"),
    [
        ({0: STAGE, 1: STAGE}, [[0, 1], [1, 0]], r"adj_mat_1\.npy and .*no cycle"),
        ({0: STAGE | {"rest_wave": {5: [-1.0]}}}, [[0]], r"task_duration_1\.npy: .* got -1"),
        ({0: STAGE | {"first_wave": [1.0]}}, [[0]], r"task_duration_1\.npy: each stage"),
    ],
)
def test_a_fault_of_pickled_profiles_names_the_files(tmp_path, stages, matrix, message):
    published(tmp_path, 1, stages, matrix)
    with pytest.raises(ValueError, match=message):
        load_upstream(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, ",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000)}",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': 7, [1]: 2}",
    ],
)
def test_a_damaged_header_names_the_file(tmp_path, text):
    header = text.ljust(117) + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "adj_mat_1.npy").write_bytes(start)
    with pytest.raises(ValueError, match=r"adj_mat_1\.npy: must hold an array"):
        load_upstream(tmp_path)


def test_a_folder_that_lacks_files_says_so(tmp_path):
    with pytest.raises(ValueError, match="got no file"):
        load_dags(tmp_path)
    np.save(tmp_path / "adj_mat_1.npy", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"task_duration_1\.npy: there is no such file"):
        load_dags(tmp_path)
    published(tmp_path, 1, {0: {}}, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="dictionary of 2 stages, got dict of 1"):
        load_dags(tmp_path)
    (tmp_path / "adj_mat_1.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"adj_mat_1\.npy: must hold an array"):
        load_dags(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_dags(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([*whole(), *[task(0, 0, 1)] * 50], r"line 54: at most 50 finished tasks .*READ_LIMIT=1MB"),
        ([*whole(), *whole(1, 1)], r"line 5: at most 2 stages and jobs of a log"),
        ([job((0, 9, [])), task(0, 0, 1), task(0, 0, 1, "2")], r"line 3: at most 1 executors"),
        ([{"Event": "x", "more": "y" * 30_000}], r"READ_LIMIT"),
    ],
)
def test_a_log_that_would_not_fit_is_refused_with_the_way_to_raise_the_limit(
    tmp_path, monkeypatch, events, message
):
    log = spark(tmp_path, *events)
    monkeypatch.setenv("NETLLM_READ_LIMIT", "0.02MB")
    with pytest.raises(ValueError, match=rf"app-1.*{message}"):
        load_spark(log)
    log.write_bytes(gzip.compress(log.read_bytes()))
    with pytest.raises(ValueError, match=rf"app-1.*{message}"):
        load_spark(log)


def test_a_trace_that_would_not_fit_is_refused_with_the_way_to_raise_the_limit(
    tmp_path, monkeypatch
):
    file = tmp_path / "batch_task.csv"
    file.write_text("".join(f"M1,1,j_{k},1,Terminated,{90 + k},95,1,1\n" for k in range(12)))
    monkeypatch.setenv("NETLLM_READ_LIMIT", "0.02MB")
    with pytest.raises(ValueError, match=r"csv, line 11: at most 10 rows .* NETLLM_READ_LIMIT=1MB"):
        load_alibaba(file)


def test_many_tasks_at_once_take_no_longer_than_many_in_turn(tmp_path):
    """Each of so many cores was once looked at for each task: 10^10 steps."""
    events = [job((0, 100_000, [])), *(task(0, 5, 6) for _ in range(100_000)), *whole(1, 1)]
    (dag, _) = load_spark(spark(tmp_path, *events, completed(0), ended(0)))
    assert len(dag.durations_ms) == 100_000
    assert dag.cells[0, 0, -1].tolist() == [0, 100_000, 0]  # all fresh, on cores of their own


def test_a_stage_that_runs_before_its_job_starts_is_refused(tmp_path):
    start, *rest = whole()
    for early in (task(0, 0, 1), completed(0)):
        with pytest.raises(ValueError, match=r"line 2: job 0 must start before its stage 0 runs"):
            load_spark(spark(tmp_path, early, start, *rest))


def test_a_pipe_among_logs_is_refused_and_not_waited_for(tmp_path):
    spark(tmp_path, *whole())
    os.mkfifo(tmp_path / "app-2")
    for place in (tmp_path, tmp_path / "app-2"):
        with pytest.raises(ValueError, match=r"app-2: must be a regular file, got a named pipe"):
            load_dags(place)


def test_times_of_another_unit_are_told(tmp_path, caplog):
    start, _, *rest = whole()
    load_spark(spark(tmp_path, start, task(0, 1_700_000_000, 1_700_000_060), *rest))
    assert "first task is launched at 1700000000, expected milliseconds" in caplog.text
    file = tmp_path / "batch_task.csv"
    file.write_text(ALIBABA.replace("100,130", "100000,130000000").replace("130,140", "5,9000000"))
    load_alibaba(file)
    assert "half of the tasks last" in caplog.text
    assert "expected times in seconds" in caplog.text


def test_a_log_of_milliseconds_and_a_trace_of_seconds_are_believed(tmp_path, caplog):
    start, _, *rest = whole()
    launched = 1_700_000_000_000
    load_spark(spark(tmp_path, start, task(0, launched, launched + 60), *rest))
    file = tmp_path / "batch_task.csv"
    file.write_text(ALIBABA)
    load_alibaba(file)
    assert "expected" not in caplog.text


def test_a_damaged_log_is_refused_by_name(tmp_path, survivors):
    file = spark(tmp_path, *whole(), *whole(1, 1))
    for dags in survivors(file, lambda: load_spark(file)):
        assert all(dag.tasks.tolist() == [1] for dag in dags)


def test_a_damaged_trace_is_refused_by_name(tmp_path, survivors):
    file = tmp_path / "batch_task.csv"
    file.write_text(ALIBABA)
    for loaded in survivors(file, lambda: load_alibaba(file).jobs):
        assert all(np.isfinite(job.dag.durations_ms).all() for job in loaded)


def test_damaged_profiles_are_refused_by_name(tmp_path, survivors):
    from netllm_sims.cjs.tpch import QUERIES, SIZES, load_tpch

    stage = {name: [[5, [9, 8]]] for name in ("fresh_durations", "first_wave", "rest_wave")}
    entry = {"edges": [], "stages": [stage]}
    sizes = {size: {str(q): entry for q in range(1, QUERIES + 1)} for size in SIZES}
    file = tmp_path / "tpch.json.gz"  # packed or not is told by content
    file.write_text(json.dumps(sizes, indent=0))

    def load():
        load_tpch.cache_clear()
        return load_tpch(file).dags

    assert {len(dags) for dags in survivors(file, load, 20)} <= {len(SIZES) * QUERIES}


def test_durations_without_their_matrix_are_refused(tmp_path):
    np.save(tmp_path / "adj_mat_1.npy", np.zeros((1, 1)))
    np.save(tmp_path / "task_duration_1.npy", np.zeros(1))
    np.save(tmp_path / "task_duration_2.npy", np.zeros(1))
    with pytest.raises(ValueError, match=r"task_duration_2\.npy: there must be adj_mat_2\.npy"):
        load_upstream(tmp_path)
    (tmp_path / "task_duration_2.npy").unlink()
    (tmp_path / "task_duration_1.npy").unlink()
    os.mkfifo(tmp_path / "task_duration_1.npy")
    with pytest.raises(ValueError, match=r"task_duration_1\.npy: .*a named pipe"):
        load_upstream(tmp_path)
