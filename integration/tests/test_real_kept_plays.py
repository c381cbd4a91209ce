"""What was played is kept file by file, and only plays of one kind lie in one folder."""

from dataclasses import replace

import numpy as np
import pytest
from netllm.real.kept_plays import KeptPlays, file_name
from netllm.real.play_log import Chunk, Log, check, figures, pictured
from netllm_sims import abr

HOW = {"setting": "default", "chunks": "48", "deadline_s": 0.15}


def session(name):
    return abr.Session(name, abr.Trace("t", np.array([0.0, 1]), np.array([8.0, 8])))


def chunk(number, level=0, size_bytes=1_000, **more):
    usual = {"took_s": 0.5, "stall_s": 0.0, "buffer_s": 4.0}
    return Chunk(number, level, size_bytes, **{**usual, **more})


def test_what_was_played_is_read_again_by_a_later_run(tmp_path):
    log = Log([chunk(0, by="model", decided_ms=3.0), chunk(1, stall_s=0.25)], over=True)
    file = KeptPlays(tmp_path, HOW).write("a policy", session("one/first"), log)
    assert file.relative_to(tmp_path).as_posix() == "plays/a policy/one%2Ffirst.json"
    again = KeptPlays(tmp_path, HOW)
    assert again.read("a policy", session("one/first")) == log
    assert again.read("a policy", session("two")) is None
    assert again.read("another", session("one/first")) is None


def test_no_two_names_share_a_file():
    names = ["a/b", "a_b", "a%2Fb", "..", "%2E.", ".", "a b"]
    files = {file_name(name) for name in names}
    assert len(files) == len(names)
    assert not any("/" in name or name.startswith(".") for name in files)


def test_a_folder_with_plays_of_another_setting_is_refused_with_what_differs(tmp_path):
    KeptPlays(tmp_path, HOW)
    with pytest.raises(ValueError, match="Choose another") as refused:
        KeptPlays(tmp_path, {**HOW, "chunks": "6"})
    assert "of {'chunks': '48'}, these are of {'chunks': '6'}" in str(refused.value)
    assert "deadline_s" not in str(refused.value)


def test_a_failed_play_is_kept_apart_until_it_was_played(tmp_path):
    kept = KeptPlays(tmp_path, HOW)
    failed = kept.write("bba", session("one"), Log([chunk(0)], error="no manifest"))
    assert failed == tmp_path / "failed" / "bba" / "one.json"
    assert kept.read("bba", session("one")) is None
    kept.write("bba", session("one"), Log([chunk(0)], over=True))
    assert not failed.exists()
    assert kept.read("bba", session("one")) == Log([chunk(0)], over=True)


def test_a_damaged_file_is_named(tmp_path):
    kept = KeptPlays(tmp_path, HOW)
    file = kept.write("bba", session("one"), Log(over=True))
    file.write_text('{"chunks": [{}]}')
    with pytest.raises(ValueError, match=r"one\.json cannot be read.*Delete it"):
        kept.read("bba", session("one"))


@pytest.fixture(scope="module")
def setting():
    return abr.setting("synthetic", chunks=3, rebuffering=2.0, smoothness=0.5)


def whole(setting, levels):
    sizes = setting.video.sizes_bytes
    return [chunk(n, level, round(sizes[n, level])) for n, level in enumerate(levels)]


def test_the_qoe_of_a_log_is_the_simulators(setting):
    chunks = whole(setting, [0, 2, 1])
    chunks[1].stall_s = 0.5
    rates = np.array(setting.video.rates_kbps) * 1e-3
    # by hand, over the two chunks that were decided about
    by_hand = (rates[2] - 2.0 * 0.5 - 0.5 * (rates[2] - rates[0])) / 2
    by_hand += (rates[1] - 0.5 * (rates[2] - rates[1])) / 2
    found = figures(pictured(Log(chunks, over=True), setting), setting)
    assert found["qoe"] == pytest.approx(by_hand)
    assert found["rebuffer_s"] == pytest.approx(0.25)


def test_a_log_must_tell_of_every_chunk_with_its_size(setting):
    video, chunks = setting.video, whole(setting, [0, 2, 1])
    check(Log(chunks, over=True), video)
    with pytest.raises(ValueError, match=r"0 to 2 in order, but it loaded \[0, 2\]"):
        check(Log([chunks[0], chunks[2]]), video)
    with pytest.raises(ValueError, match=r"must have \d+ bytes, but 7 arrived"):
        check(Log([*chunks[:2], chunk(2, 1, 7)]), video)
    with pytest.raises(ValueError, match="a level up to 5, got 6"):
        check(Log([*chunks[:2], chunk(2, 6)]), video)
    with pytest.raises(ValueError, match="no manifest"):
        check(Log(chunks, error="no manifest"), video)


def test_a_shorter_video_needs_fewer_chunks(setting):
    check(Log(whole(setting, [0, 2])), replace(setting.video, chunks=2))
