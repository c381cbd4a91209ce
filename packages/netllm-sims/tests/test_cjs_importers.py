"""Files in the published formats, made here with numbers of our own."""

import gzip
import json

import pytest
from netllm_sims import cjs
from netllm_sims.cjs.importers import IMPORTERS, run

HELIOS = """\
job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
7,u1,v1,2,8,1,COMPLETED,2020-06-09 18:41:01,2020-06-09 18:42:01,2020-06-09 18:45:01,180,60
8,u1,v1,4,16,1,FAILED,2020-06-09 18:41:27,2020-06-09 18:41:27,2020-06-09 18:45:36,249,0
9,u2,v1,0,4,1,COMPLETED,2020-06-09 18:50:00,2020-06-09 18:50:00,2020-06-09 18:51:00,60,0
6,u2,v2,8,8,1,COMPLETED,2020-06-09 18:00:00,2020-06-09 18:00:00,2020-06-09 18:00:30,30,0
"""


def attempt(start, end, *gpus):
    servers = [{"ip": f"m{k}", "gpus": [f"gpu{g}" for g in range(n)]} for k, n in enumerate(gpus)]
    times = (time and f"2017-10-07 {time}" for time in (start, end))
    return dict(zip(("start_time", "end_time"), times, strict=True)) | {"detail": servers}


def philly_job(name, *attempts, status="Pass"):
    known = {"status": status, "vc": "v", "jobid": name, "user": "u"}
    return known | {"submitted_time": "2017-10-07 01:00:00", "attempts": attempts}


PHILLY = [
    philly_job("again", attempt("01:12:09", "01:13:23", 8), attempt("02:00:00", "03:00:00", 4, 2)),
    philly_job("killed", attempt("01:12:09", "01:13:23", 8), status="Killed"),
    philly_job("never"),
    philly_job("going-on", attempt("01:12:09", None, 1)),
    philly_job("short", attempt("01:00:00", "01:00:10", 1)),
]


def event(time_s, job, task, kind):
    return f"{int(time_s * 1e6)},,{job},{task},,{kind},user,2,9,0.1,0.1,0.0001,\n"


SUBMIT, SCHEDULE, EVICT, FINISH, KILL, UPDATE = 0, 1, 2, 4, 5, 8
GOOGLE = [
    event(0, 3, 0, SUBMIT),
    event(0, 3, 0, SCHEDULE),
    event(600, 11, 0, SUBMIT) + event(600, 11, 1, SUBMIT) + event(601, 11, 0, SCHEDULE),
    event(602, 11, 1, SCHEDULE) + event(603, 12, 0, SUBMIT) + event(604, 12, 0, SCHEDULE),
    event(610, 11, 0, EVICT) + event(610, 11, 0, SUBMIT) + event(620, 11, 0, SCHEDULE),
    event(621, 3, 0, FINISH) + event(622, 12, 0, UPDATE) + event(632, 11, 1, FINISH),
    event(640, 99, 0, SUBMIT) + event(641, 12, 0, KILL),
    event(670, 11, 0, FINISH),
]


def helios(tmp_path, text=HELIOS):
    (tmp_path / "cluster_log.csv").write_text(text)
    return tmp_path / "cluster_log.csv"


def philly(tmp_path, jobs=PHILLY):
    (tmp_path / "cluster_job_log").write_text(json.dumps(jobs, indent=1))
    return tmp_path / "cluster_job_log"


def google(tmp_path, lines=GOOGLE, name="part-00000-of-00500.csv.gz"):
    (tmp_path / name).write_bytes(gzip.compress("".join(lines).encode()))
    return tmp_path / name


def written(out):
    return [line.split(",") for line in (out / "batch_task.csv").read_text().splitlines()]


def shapes(out):
    """Tasks and seconds of each job, which has one stage, by its name."""
    dags = cjs.setting("default", jobs=out).catalogue.dags
    assert [dag.stages for dag in dags] == [1] * len(dags)
    return {dag.name: (int(dag.tasks[0]), float(dag.rough_ms[0]) / 1e3) for dag in dags}


def test_a_job_of_helios_is_a_task_per_gpu(tmp_path):
    done = run("helios", [helios(tmp_path)], tmp_path / "out")
    assert (done.made, done.left_out) == (2, 2)
    assert shapes(done.out) == {"6": (8, 30.0), "7": (2, 180.0)}
    first, second = written(done.out)
    assert float(second[5]) - float(first[5]) == 41 * 60 + 1
    # (8 · 30 + 2 · 180) s of work, half of it per job, on 50 executors that are busy for 0.8
    assert done.settings == {"jobs": str(done.out), "mean_interarrival_ms": "7500"}


def test_a_job_of_philly_is_its_last_attempt(tmp_path):
    done = run("philly", [philly(tmp_path)], tmp_path / "out")
    assert (done.made, done.left_out) == (2, 3)
    assert shapes(done.out) == {"again": (6, 3600.0), "short": (1, 10.0)}
    assert {row[5] for row in written(done.out)} == {"1507338000.0"}  # 2017-10-07 01:00 in UTC


def test_a_job_of_google_is_a_stage_of_its_tasks(tmp_path):
    """Task 0 ran 50 s after it was evicted, task 1 30 s; job 12 was killed, 99 did not end."""
    done = run("google-2011", [google(tmp_path)], tmp_path / "out")
    assert (done.made, done.left_out) == (1, 3)
    assert shapes(done.out) == {"11": (2, 40.0)}
    assert written(done.out)[0][5] == "600.0"


def test_parts_of_google_follow_one_another(tmp_path):
    parts = [google(tmp_path, GOOGLE[:4], "a.gz"), google(tmp_path, GOOGLE[4:], "b.gz")]
    assert shapes(run("google-2011", parts, tmp_path / "out").out) == {"11": (2, 40.0)}
    with pytest.raises(ValueError, match=r"a\.gz:1: events must be in order .* got 0 after 670"):
        run("google-2011", parts[::-1], tmp_path / "other")


@pytest.mark.parametrize("name", IMPORTERS)
def test_the_settings_of_an_import_can_be_played(tmp_path, name):
    file = {"helios": helios, "philly": philly, "google-2011": google}[name](tmp_path)
    done = run(name, [file], tmp_path / "out")
    setting = cjs.setting("bursts", **done.settings, num_jobs=5)
    result = cjs.rollout(cjs.fair(), setting, setting.episodes("test", episodes=2))
    assert (result.jct_s > 0).all()


GOOD = GOOGLE[2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("helios", HELIOS.replace("gpu_num", "gpus"), ":1: the header must name job_id, gpu_num"),
        ("helios", HELIOS[:-20], ":5: the row must have 12 cells .* Was the file cut"),
        ("helios", HELIOS.replace(",180,", ",soon,"), ":2: `duration` must be a number"),
        ("helios", HELIOS.replace(",180,", ",-1,"), ":2: `duration` must be a number >= 0"),
        ("helios", HELIOS.replace("v1,2,", "v1,2.5,"), ":2: `gpu_num` must be a whole number"),
        ("helios", HELIOS.replace("18:41:01", "18:61:01"), ":2: `submit_time` must be a date"),
        ("helios", HELIOS.replace("\n6,", "\n7,"), r":2: there must be one job 7, got .*:5\."),
        ("helios", HELIOS.replace("COMPLETED", "FAILED"), "at least one job .* got 4 that did"),
        ("helios", "", ":1: the header must name"),
        ("philly", json.dumps(PHILLY)[:-9], ":1: must be JSON"),
        ("philly", json.dumps(PHILLY).replace("Killed", "Kild"), r"\$\[1\]\.status: Invalid enum"),
        ("philly", json.dumps(PHILLY).replace("03:00:00", "3 h"), r"\$\[0\]: `end_time` must be"),
        ("philly", json.dumps(PHILLY).replace("03:00:00", "01:00:00"), r"\$\[0\]: a job must have"),
        ("philly", '{"jobs": []}', "Expected `array`, got `object`"),
        ("google-2011", GOOD[:-9], ":3: the row must have 13 cells, got 11. Was the file cut"),
        ("google-2011", "1,,2,0,u,0,n,l\n", "13 cells, got 8. Was the file cut, or is it another"),
        ("google-2011", GOOD + event(700, 11, 0, 9), ":4: event type must be .* from 0 to 8"),
        ("google-2011", GOOD.replace("600000000", "now"), ":1: timestamp must be a whole number"),
        ("google-2011", GOOD.replace(",11,", ",,"), ":1: job ID must be a whole number"),
        ("google-2011", GOOD.replace(",11,1,", ",11,x,"), ":2: task index must be a whole"),
    ],
)
def test_a_file_of_another_version_or_a_broken_one_is_refused_by_line(
    tmp_path, name, content, message
):
    file = tmp_path / "trace.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"trace.csv.*{message}"):
        run(name, [file], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["trace.csv"]


def test_damaged_packing_a_full_folder_and_no_file_are_refused(tmp_path):
    file = google(tmp_path)
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(ValueError, match="the packing breaks"):
        run("google-2011", [file], tmp_path / "out")
    with pytest.raises(FileExistsError, match="must be empty"):
        run("helios", [helios(tmp_path)], tmp_path)
    with pytest.raises(ValueError, match="at least one file, got 0"):
        run("philly", [], tmp_path / "out")
    with pytest.raises(ValueError, match="Did you mean google-2011"):
        run("google", [file], tmp_path / "out")


@pytest.mark.parametrize("name", IMPORTERS)
def test_damaged_traces_are_jobs_or_refused_by_name(tmp_path, survivors, name):
    file = {"helios": helios, "philly": philly, "google-2011": google}[name](tmp_path)
    if name == "google-2011":
        file.write_bytes(gzip.decompress(file.read_bytes()))
    outs = iter(range(1_000))
    for done in survivors(file, lambda: run(name, [file], tmp_path / f"out{next(outs)}"), 100):
        assert all(tasks >= 1 and took_s >= 0 for tasks, took_s in shapes(done.out).values())
