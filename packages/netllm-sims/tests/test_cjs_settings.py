import gzip
import json
import re

import pytest
from netllm_sims import cjs


@pytest.mark.parametrize(
    ("name", "executors", "jobs"),
    [
        ("default", 50, 200),
        ("unseen-executors", 30, 200),
        ("unseen-jobs", 50, 450),
        ("unseen-both", 30, 450),
    ],
)
def test_settings_have_the_papers_sizes(real_data, name, executors, jobs):
    setting = cjs.setting(name)
    assert (setting.num_executors, setting.num_jobs) == (executors, jobs)
    assert not setting.synthetic
    assert len(setting.workload(666)) == jobs
    assert name in cjs.settings()
    assert len(setting.episodes("test")) == 20
    if name != "default":
        with pytest.raises(ValueError, match="only a `test` part, got 'train'"):
            setting.episodes("train")


def test_no_job_sequence_is_in_two_parts():
    setting = cjs.setting("synthetic", num_jobs=1)

    def seeds(part, **options):
        return {episode.seed for episode in setting.episodes(part, **options)}

    test = seeds("test")
    assert test == set(range(666, 686))
    valid = seeds("valid") | seeds("valid", episodes=500)
    train = seeds("train") | seeds("train", episodes=500, seed=1)
    assert test.isdisjoint(valid | train)
    assert valid.isdisjoint(train)
    assert len(seeds("valid", episodes=500)) == 500
    assert seeds("test", episodes=3) == {666, 667, 668}
    assert seeds("test", seeds=[1, 2]) == {1, 2}
    again = setting.episodes("train", episodes=5, seed=1)
    assert [e.seed for e in again] == [
        e.seed for e in setting.episodes("train", episodes=5, seed=1)
    ]
    assert len({e.id for e in setting.episodes("test", seeds=[1, 1])}) == 2


def test_without_data_default_is_synthetic(no_data):
    setting = cjs.setting("default")
    assert setting.synthetic
    assert setting.workload(3).jobs[0].dag.name.startswith("random-")
    with pytest.raises(FileNotFoundError, match="needs the real data"):
        cjs.setting("unseen-jobs")


def test_overrides_are_checked(tmp_path):
    assert cjs.setting("synthetic", num_executors="20").num_executors == 20
    for overrides, message in [
        ({"num_executor": 3}, "Did you mean num_executors"),
        ({"num_jobs": 0}, "at least 1 and at most 1,000,000, got 0"),
        ({"num_jobs": 10**11}, "at most 1,000,000, got 100000000000"),
        ({"num_jobs": 2.5}, "must be a whole number, got 2.5"),
        ({"moving_ms": "soon"}, "must be a number, got 'soon'"),
        ({"warmup_ms": -1}, "got -1"),
        ({"slow_executors": 51}, "at most the 50 executors of the cluster, got 51"),
        ({"slow_executors": -1}, "at least 0"),
        ({"slow_factor": 0.5}, "`slow_factor` must lie in [1, 1e+06], got 0.5"),
        ({"slow_factor": 1e300}, "`slow_factor` must lie in [1, 1e+06], got 1e+300"),
        ({"mean_interarrival_ms": 1e308}, "must lie in [0, 1e+12] ms, got 1e+308"),
        ({"moving_ms": 1e300}, "`moving_ms` must lie in [0, 1e+12] ms"),
        ({"slow_factor": "nan"}, "got nan"),
        ({"interpolation": "referense"}, "Did you mean reference"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            cjs.setting("synthetic", **overrides)
    with pytest.raises(ValueError, match="Did you mean default"):
        cjs.setting("defualt")
    with pytest.raises(FileNotFoundError, match="no such file or folder of profiles"):
        cjs.setting("default", jobs=tmp_path / "log")
    with pytest.raises(FileNotFoundError, match="must hold cjs/tpch"):
        cjs.setting("default", data=tmp_path)


def test_parts_and_numbers_of_episodes_are_checked():
    setting = cjs.setting("synthetic", num_jobs=1)
    with pytest.raises(ValueError, match="Did you mean valid"):
        setting.episodes("vaild")
    with pytest.raises(ValueError, match="at most 20 for `test`, got 21"):
        setting.episodes("test", episodes=21)
    with pytest.raises(ValueError, match="at most 500 for `valid`, got 501"):
        setting.episodes("valid", episodes=501)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        setting.episodes("train", episodes=0)


PACKED = gzip.compress(b'{"2g": {}}')
NO_WAVES = {"fresh_durations": [], "first_wave": [], "rest_wave": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", ":1: must be JSON, got 'no gzip'"),
        (PACKED[:-9], ": the packing breaks"),
        (PACKED[:10] + b"\xff" + PACKED[11:], ": the packing breaks"),  # no such kind of block
        (gzip.compress(b"\xff\xfe"), ":1: must be a text file in UTF-8"),
        (gzip.compress(b"{"), ":1: must be JSON"),
        (PACKED, ": must be the published profiles"),
        (
            gzip.compress(json.dumps({"2g": {"1": {"stages": [NO_WAVES], "edges": []}}}).encode()),
            ": must be the published profiles",
        ),
    ],
    ids=["no-gzip", "cut", "broken-block", "no-text", "no-json", "no-queries", "no-waves"],
)
def test_a_faulty_file_of_profiles_is_named(tmp_path, content, message):
    (tmp_path / "cjs").mkdir()
    file = tmp_path / "cjs" / "tpch.json.gz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{file}{message}")):
        cjs.setting("default", data=tmp_path).workload(0)


def test_own_jobs_are_read_once_until_the_file_changes(tmp_path):
    file = tmp_path / "batch_task.csv"
    file.write_text("M1,1,a,1,Terminated,1,2,1,1\n")
    setting = cjs.setting("default", jobs=file, num_jobs=2)
    first, again = setting.catalogue, setting.catalogue
    assert first is again
    file.write_text("M1,1,other,1,Terminated,1,2,1,1\n")
    assert [dag.name for dag in setting.catalogue.dags] == ["other"]


def test_a_wrong_part_or_seed_says_what_is_there():
    import gymnasium

    with pytest.raises(ValueError, match=r"Unknown part 'tset'\. Did you mean test"):
        gymnasium.make("netllm/CJS-v0", setting="synthetic", part="tset")
    with pytest.raises(ValueError, match="`seeds` must be a whole number >= 0, got -1"):
        cjs.setting("synthetic").episodes("test", seeds=[-1])
