import json

import pytest
from netllm import cli

LOG = "".join(
    f"1453121{i:06d} {i * 1000} 51.0 3.7 {125_000 * (1 + i % 3)} 1000\n" for i in range(60)
)


@pytest.fixture
def log(tmp_path):
    file = tmp_path / "report_bus_0001.log"
    file.write_text(LOG)
    return file


def test_an_import_says_how_to_use_it(log, tmp_path, capsys):
    out = tmp_path / "mine"
    assert cli.main(["import", "abr", "ghent", str(log), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"{out}: 1 traces\nUse: netllm test abr --set traces={out}\n" == told
    # 125,000 bytes a second are 1 Mbit/s
    lines = (out / "report_bus_0001.csv").read_text().split("\n")
    assert lines[:4] == ["time_s,bandwidth_mbps", "0.0,1.0", "1.0,1.0", "2.0,2.0"]


def test_an_import_can_be_told_as_json(log, tmp_path, capsys):
    words = ["import", "abr", "norway", str(log), "--out", str(tmp_path / "mine"), "--json"]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["left_out"]) == (1, 0)
    assert told["settings"] == {"traces": str(tmp_path / "mine")}


def test_the_printed_settings_of_a_video_can_be_used(tmp_path, capsys):
    movie = tmp_path / "movie.json"
    sizes = [[1_000_000, 2_000_000, 4_000_000]] * 30
    ladder = {"segment_duration_ms": 2000, "bitrates_kbps": [500, 1000, 2000]}
    movie.write_text(json.dumps(ladder | {"segment_sizes_bits": sizes}))
    out = tmp_path / "mine"
    assert cli.main(["import", "abr", "sabre-movie", str(movie), "--out", str(out)]) == 0
    words = capsys.readouterr().out.split("Use: netllm ")[1].split()
    assert words[2:] == [
        *("--set", f"video={out}", "--set", "rates_kbps=500,1000,2000"),
        *("--set", "chunk_s=2", "--set", "chunks=30"),
    ]
    assert cli.main([*words, "--policy", "bba", "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_the_printed_settings_of_jobs_can_be_used(tmp_path, capsys):
    header = "job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time"
    times = ",".join(["2020-06-09 18:41:01"] * 3)
    rows = [f"{k},u,v,{k},1,1,COMPLETED,{times},{60 * k},0" for k in range(1, 5)]
    file = tmp_path / "cluster_log.csv"
    file.write_text("\n".join([f"{header},duration,queue", *rows]) + "\n")
    out = tmp_path / "mine"
    assert cli.main(["import", "cjs", "helios", str(file), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{out}: 4 jobs\nUse: netllm test cjs --set jobs={out} --set mean_int")
    words = told.split("Use: netllm ")[1].split()
    small = ["--set", "num_jobs=5", "--policy", "fair", "--episodes", "2", "--json"]
    assert cli.main([*words, *small]) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    assert result["metrics"]["fairness"]["mean"] > 0


def test_sources_are_listed(capsys):
    assert cli.main(["import", "abr"]) == 0
    assert "norway        traces from HSDPA logs of Norway" in capsys.readouterr().out
    assert cli.main(["import", "cjs"]) == 0
    assert "helios        jobs from cluster_log.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("vp",), "There are importers for abr, cjs, flows only, got 'vp'"),
        (("abr", "norwy", "a", "--out", "b"), "Did you mean norway"),
        (("abr", "norway", "a"), "needs the folder to write: --out DIR"),
        (("abr", "norway", "--out", "b"), "must be given at least one file"),
        (("abr", "norway", "nowhere", "--out", "b"), "nowhere: there is no such file"),
    ],
)
def test_mistakes_are_told(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
