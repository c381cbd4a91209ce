"""Every source of data has a name and a digest that follows its content."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from netllm_sims import abr, cjs, vp
from netllm_sims.data_sources import contents, generated, of_files


@pytest.fixture
def folder(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("b.txt", "a.txt"):
        (mine / name).write_text(f"0 1\n10 {ord(name[0])}\n")
    return mine


def test_the_digest_of_a_folder_is_that_of_what_sha256sum_prints(folder):
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("a.txt", "b.txt")
    ]
    found = of_files("traces", folder, origin="own")
    assert found.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (found.files, found.size_bytes, found.name) == (2, 20, "mine")
    assert str(found) == f"mine (2 files, sha256 {found.sha256[:8]}…)"


def test_the_digest_of_a_file_is_that_of_its_content_alone(folder):
    first = of_files("jobs", folder / "a.txt", origin="own")
    assert first.sha256 == hashlib.sha256((folder / "a.txt").read_bytes()).hexdigest()
    (folder / "a.txt").rename(folder / "c.txt")
    assert of_files("jobs", folder / "c.txt", origin="own").sha256 == first.sha256
    assert "(1 file, " in str(first)


def test_other_content_under_the_same_name_is_another_source(folder):
    first = of_files("traces", folder, origin="own")
    (folder / "b.txt").write_text("0 1\n10 99\n20 3\n")
    changed = of_files("traces", folder, origin="own")
    (folder / "b.txt").rename(folder / "c.txt")
    renamed = of_files("traces", folder, origin="own")
    assert len({first.sha256, changed.sha256, renamed.sha256}) == 3
    (folder / ".hidden").write_text("left by an editor")
    assert of_files("traces", folder, origin="own") == renamed


def test_what_was_digested_is_not_read_again(folder, monkeypatch):
    first = of_files("traces", folder, origin="own")
    read = []
    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: read.append(a) or whole(*a))
    assert of_files("traces", folder, origin="own") == first
    assert not read
    (folder / "a.txt").write_text("0 1\n10 2\n30 3\n")
    of_files("traces", folder, origin="own")
    assert len(read) == 2


def test_bitrate_streaming_has_traces_and_a_video(folder, tmp_path):
    kinds = [str(one) for one in abr.setting("synthetic").sources]
    assert kinds == ["generated traces", "generated video"]
    traces, video = abr.setting("synthetic", traces=folder).sources
    assert (traces.kind, traces.origin, traces.files) == ("traces", "own", 2)
    assert (video.kind, video.origin) == ("video", "generated")
    film = tmp_path / "film"
    film.mkdir()
    for level in range(6):
        (film / f"video_size_{level:02d}").write_text("1000\n" * 30)
    video = abr.setting("synthetic", video=film).sources[1]
    assert (video.name, video.origin, video.files) == ("film", "own", 6)
    made = abr.Video(name="made", rates_kbps=(1, 2), sizes_bytes=np.ones((5, 2)), chunks=4)
    one, other = (abr.setting("synthetic", video=made, chunks=n).sources[1] for n in (4, 5))
    assert one.sha256 != other.sha256
    assert str(one) == f"made (sha256 {one.sha256[:8]}…)"


def test_published_data_have_digests_too(real_data):
    traces, video = abr.setting("default", data=real_data).sources
    assert [one.origin for one in (traces, video)] == ["published", "published"]
    assert (traces.name, traces.files, video.name) == ("fcc", 337, "video1")
    longer = abr.setting("paper-split", data=real_data).sources[0]
    assert longer.files == 488
    assert abr.setting("unseen-bandwidth", data=real_data).sources[0].origin == "generated"


def test_jobs_and_head_movement_have_digests_too(tmp_path):
    assert [one.kind for one in cjs.setting("synthetic").sources] == ["jobs"]
    file = tmp_path / "tasks.csv"
    file.write_text("M1,1,a,1,Terminated,1,2,1,1\n")
    (jobs,) = cjs.setting("default", jobs=file).sources
    assert (jobs.name, jobs.origin) == ("tasks.csv", "own")
    assert jobs.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    heads, frames = tmp_path / "heads", tmp_path / "frames"
    for where, name in ((heads, "u.csv"), (frames, "000001.png")):
        (where / "video").mkdir(parents=True)
        (where / "video" / name).write_text("x")
    place = vp.setting("default", trajectories=heads, frames=frames)
    assert [(one.kind, one.name, one.files) for one in place.sources] == [
        ("head movement", "heads", 1),
        ("frames", "frames", 1),
    ]


def test_episodes_without_contents_have_none():
    assert contents([object()]) == frozenset()
    assert generated("traces").document()["sha256"] is None


def test_naming_sources_loads_no_simulator():
    script = "import sys, netllm_sims.data_sources; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
