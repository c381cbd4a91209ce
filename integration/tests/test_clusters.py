import netllm
import pytest
from netllm import registry
from netllm.report.intervals import extent, mean_of
from netllm.report.table import setting_table


def write_traces(folder, names):
    folder.mkdir()
    for number, name in enumerate(names):
        lines = [
            f"{second} {0.6 + 0.1 * number + 0.05 * (second % 3)}" for second in range(0, 400, 5)
        ]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def test_sessions_on_one_line_are_one_cluster(tmp_path):
    names = [f"trace_{unit}_http---www.ebay.com_{start}" for unit in (7, 8) for start in (0, 640)]
    traces = write_traces(tmp_path / "fcc", [*names, "bus"])
    task = registry.task("abr")
    setting = task.setting("default", traces=traces)
    sessions = [
        session for part in ("train", "valid", "test") for session in task.episodes(setting, part)
    ]
    lines = {one: named["line"] for one, named in task.clusters(setting, sessions).items()}
    units = [line for line in lines.values() if line.startswith("FCC unit")]
    assert sorted(units) == ["FCC unit 7", "FCC unit 7", "FCC unit 8", "FCC unit 8"]
    assert len(set(lines.values())) == 3


def test_viewers_and_videos_cross():
    task = registry.task("vp")
    setting = task.setting("synthetic")
    clips = task.episodes(setting, "test")
    named = task.clusters(setting, clips)
    assert [{clip.video} & set(named[clip.id].values()) for clip in clips] == [
        {clip.video} for clip in clips
    ]
    assert set(named[clips[0].id]) == {"viewer", "video"}
    assert len({one["viewer"] for one in named.values()}) < len(clips)


def test_one_job_sequence_run_twice_is_one_cluster():
    task = registry.task("cjs")
    setting = task.setting("synthetic")
    named = task.clusters(setting, task.by_seed(setting, "valid", [21, 21, 22]))
    assert [one["job sequence"] for one in named.values()] == ["21", "21", "22"]


@pytest.fixture(scope="module")
def report():
    return netllm.test("abr", policy=["bba", "hindsight"], setting="synthetic", episodes=6)


def test_tables_and_documents_tell_the_clusters(report):
    rows = report.document()["results"][0]["episodes"]
    assert len({row["cluster"]["line"] for row in rows}) == 6
    assert extent(rows) == "6 episodes (6 lines)"
    assert "6 episodes (6 lines)" in setting_table("s", report.results, report.metrics).title


def test_hindsight_says_that_it_knows_the_future(report):
    assert {one.policy: one.knows for one in report.results} == {
        "bba": "",
        "hindsight": "the future",
    }


def test_few_lines_give_no_interval_however_many_sessions():
    rows = [{"id": str(n), "qoe": float(n), "cluster": {"line": str(n % 4)}} for n in range(40)]
    assert mean_of(rows, "qoe").ci95 is None
