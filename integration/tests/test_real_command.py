"""`netllm real`: what it refuses, what it writes, and how it goes on."""

import json

import pytest

pytest.importorskip("playwright", reason="needs netllm[real]")
pytestmark = [
    # of playwright's pipes, when its event loop has ended
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
SHORT = ("abr", "--setting", "synthetic", "--set", "chunks=3", "--episodes", "1")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("vp", "--policy", "linear"), "the task must be abr, got 'vp'"),
        (("abr",), "Somebody must decide"),
        (("abr", "--policy", "bbq"), "Did you mean bba"),
        (("abr", "--policy", "bba", "--player", "dash"), "Did you mean dashjs"),
        (("abr", "--policy", "bba", "--link", "userspace"), "Did you mean user-space"),
        (("abr", "--policy", "bba", "--players", "0"), "`players` must be at least 1"),
        ((*SHORT, "--policy", "hindsight"), "hindsight knows the future"),
        ((*SHORT, "--policy", "mpc-paper"), "mpc-paper carries state from one to the next"),
        ((*SHORT, "--policy", "bba", "--deadline-s", "-1"), "`deadline_s` must lie between"),
    ],
)
def test_what_cannot_be_played_is_refused(netllm, tmp_path, asked, told):
    code, _, err = netllm("real", *asked, "--out", tmp_path / "out")
    assert code == 2
    assert told in err
    assert not (tmp_path / "out").exists()


def test_a_folder_has_one_writer(netllm, tmp_path):
    import threading

    from netllm_adapt.files.locks import locked

    codes = []
    with locked(tmp_path):  # a thread that has it would get it again
        asked = ("real", *SHORT, "--policy", "bba", "--out", tmp_path)
        other = threading.Thread(target=lambda: codes.append(netllm(*asked)))
        other.start()
        other.join()
    ((code, _, err),) = codes
    assert code == 1
    assert "must have one writer at a time" in err
    assert not (tmp_path / "plays.json").exists()


def test_a_folder_of_another_setting_is_refused(netllm, tmp_path):
    (tmp_path / "plays.json").write_text('{"setting": "synthetic", "chunks": "48"}')
    code, _, err = netllm("real", *SHORT, "--policy", "bba", "--out", tmp_path)
    assert code == 2
    assert f"{tmp_path} holds plays of" in err
    assert "'chunks': '48'" in err


def test_what_was_played_is_compared_with_the_simulator_and_not_played_again(
    netllm, tmp_path, real_player
):
    real_player("dashjs")
    asked = ("real", *SHORT, "--policy", "bba", "--deadline-s", "60", "--out", tmp_path, "--json")
    code, out, err = netllm(*asked)
    assert code == 0, err
    document = json.loads(out)
    assert json.loads((tmp_path / "results.json").read_text()) == document
    (gap,) = document["gaps"]
    (real,), (simulated,) = document["results"], document["simulated"]
    assert gap["label"] == real["policy"] == simulated["policy"] == "bba"
    assert gap["real"] == real["metrics"]["qoe"]["mean"]
    assert gap["simulated"] == simulated["metrics"]["qoe"]["mean"]
    assert gap["decided_by"] == {"itself": 1.0}
    (play,) = tmp_path.glob("plays/bba/*.json")
    log = json.loads(play.read_text())
    assert [chunk["number"] for chunk in log["chunks"]] == [0, 1, 2]
    (plot,) = (tmp_path / "plots").iterdir()
    assert plot.stem == play.stem
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert 'command = "real"' in (tmp_path / "recipe.toml").read_text()
    before = play.stat().st_mtime_ns
    _, out, _ = netllm(*asked)
    assert json.loads(out)["gaps"] == document["gaps"]
    assert play.stat().st_mtime_ns == before


def test_a_player_that_fails_is_told_and_what_it_told_is_kept(
    netllm, tmp_path, real_player, monkeypatch
):
    from netllm.real.player_library import library

    real_player("dashjs")
    file = library("dashjs")
    cache = tmp_path / "cache" / "real"
    (cache / "picture-4s-3").mkdir(parents=True)
    (cache / file.parent.name).symlink_to(file.parent)
    for name in ("init.mp4", "1.m4s", "2.m4s", "3.m4s"):
        (cache / "picture-4s-3" / name).write_bytes(b"\0\0\0\x08moov")
    monkeypatch.setenv("NETLLM_CACHE", str(cache.parent))
    out = tmp_path / "out"
    code, _, err = netllm("real", *SHORT, "--policy", "bba", "--out", out)
    assert code == 1
    (failed,) = out.glob("failed/bba/*.json")
    assert f"A player has failed with bba in session '{failed.stem}'" in err
    assert str(failed) in err
    assert json.loads(failed.read_text())["error"] in err
    assert not (out / "plays").exists()
    assert not (out / "results.json").exists()
