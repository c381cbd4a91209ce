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


def test_sources_are_listed(capsys):
    assert cli.main(["import", "abr"]) == 0
    assert "norway        traces from HSDPA logs of Norway" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("vp",), "There are importers for abr and flows only, got 'vp'"),
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
