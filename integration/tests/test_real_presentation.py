"""Presentations: sizes to the byte, manifests that name what there is, clear errors."""

import shutil
import struct
from xml.etree import ElementTree

import numpy as np
import pytest
from netllm.real.presentation import Presentation, picture
from netllm_sims.abr import Video

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
RATES_KBPS = (300.0, 1200.0)


def video(sizes_bytes, **more):
    sizes = np.array(sizes_bytes, np.float64)
    return Video(name="v", rates_kbps=RATES_KBPS, sizes_bytes=sizes, chunks=len(sizes), **more)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return picture(2.0, 3, folder=tmp_path_factory.mktemp("pictures"))


def boxes(content):
    """Names and sizes of the boxes of an MP4 file, one after the other."""
    found, place = [], 0
    while place < len(content):
        size, name = struct.unpack(">I4s", content[place : place + 8])
        assert 8 <= size <= len(content) - place
        found.append((name.decode(), size))
        place += size
    return found


@needs_ffmpeg
def test_segments_have_the_sizes_of_the_chunks_and_end_with_a_box_that_is_skipped(media):
    sizes = [[60_000, 300_000], [60_001, 310_000], [70_000, 300_007]]
    shown = Presentation(video(sizes, chunk_s=2.0), media)
    for level in range(2):
        for number in range(1, 4):
            content = shown.segment(level, number)
            assert len(content) == sizes[number - 1][level]
            names = [name for name, _ in boxes(content)]
            assert names[-2:] == ["mdat", "free"]
    with pytest.raises(KeyError, match="level 2"):
        shown.segment(2, 1)
    with pytest.raises(KeyError, match="segment 4"):
        shown.segment(1, 4)
    assert [name for name, _ in boxes(shown.init(1))] == ["ftyp", "moov"]


@needs_ffmpeg
def test_manifests_name_every_level_and_segment(media):
    shown = Presentation(video(np.full((3, 2), 90_000), chunk_s=2.0), media)
    space = "{urn:mpeg:dash:schema:mpd:2011}"
    levels = ElementTree.fromstring(shown.mpd()).findall(f".//{space}Representation")
    told = [(level.get("id"), level.get("bandwidth")) for level in levels]
    assert told == [("0", "300000"), ("1", "1200000")]
    assert 'mediaPresentationDuration="PT6S"' in shown.mpd()
    assert 'media="http://there/$RepresentationID$/$Number$.m4s"' in shown.mpd(base="http://there/")
    assert "http://there/1/3.m4s" in shown.m3u8(1, base="http://there/").splitlines()
    assert shown.m3u8().count("list.m3u8") == 2
    assert shown.m3u8(1).splitlines()[-3:] == ["#EXTINF:2,", "3.m4s", "#EXT-X-ENDLIST"]


@needs_ffmpeg
def test_a_chunk_that_cannot_hold_the_picture_is_named(media):
    with pytest.raises(ValueError, match="chunk 2 has one of 900"):
        Presentation(video([[90_000, 90_000], [900, 90_000], [90_000, 90_000]], chunk_s=2.0), media)


@needs_ffmpeg
def test_a_picture_is_made_once(media):
    before = (media / "1.m4s").stat().st_mtime_ns
    assert picture(2.0, 3, folder=media.parent) == media
    assert (media / "1.m4s").stat().st_mtime_ns == before
    assert [path.name for path in media.parent.iterdir()] == [media.name]


def test_a_segment_is_a_whole_number_of_frames(tmp_path):
    with pytest.raises(ValueError, match=r"multiple of 0\.1 s to be played, got 2\.05"):
        picture(2.05, 3, folder=tmp_path)


def test_a_missing_ffmpeg_is_told_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get install ffmpeg"):
        picture(2.0, 3, folder=tmp_path / "pictures")
