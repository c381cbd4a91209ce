import io
import os
import struct
import tracemalloc
import zipfile

import pytest
from netllm_sims.files import reading, zips


@pytest.fixture(autouse=True)
def usual_limit(monkeypatch):
    monkeypatch.delenv(reading.LIMIT, raising=False)


def pack(file, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def refused(file, message):
    with pytest.raises(ValueError, match=message) as caught, zips.opened(file):
        pass
    assert str(caught.value).startswith(str(file))


def test_members_are_streams(tmp_path):
    file = pack(tmp_path / "a.zip", [("v/b.csv", "1\n2\n"), ("a.csv", b""), ("v/", b"")])
    with zips.opened(file) as archive:
        assert archive.names == ("a.csv", "v/b.csv")
        with archive.stream("v/b.csv") as stream:
            assert list(reading.lines(stream, "f")) == [(1, b"1\n"), (2, b"2\n")]
        assert archive.read("v/b.csv") == b"1\n2\n"
        assert archive.path("a.csv") == file / "a.csv"


def test_an_archive_of_more_than_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    lines = b"0.1,1,2,3\n" * 300_000
    file = pack(tmp_path / "bomb.zip", [(f"{i}.csv", lines) for i in range(4)])
    monkeypatch.setenv(reading.LIMIT, "10MB")
    tracemalloc.start()
    try:
        refused(file, "at most 10 MB .*got 12 MB in 4 members.*NETLLM_READ_LIMIT=20MB")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    monkeypatch.delenv(reading.LIMIT)
    refused(file, "at most 100 times its size, got 12 MB")  # as it is all one line


def test_a_member_that_packs_suspiciously_well_is_refused(tmp_path):
    noise = os.urandom(200_000)
    file = pack(tmp_path / "a.zip", [("noise", noise), ("zeros", bytes(12_000_000))])
    refused(file, r"a\.zip/zeros: must unpack to at most 100 times its size, got 12 MB")


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up.csv", "a/../../up.csv", "C:/x.csv", "a\\..\\x.csv"]
)
def test_names_outside_the_archive_are_refused(tmp_path, name):
    refused(pack(tmp_path / "a.zip", [(name, "1")]), "relative name without `..`, got")


def test_a_name_must_be_there_once(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = pack(tmp_path / "a.zip", [("a", "1"), ("a", "2")])
    refused(file, "must be there once")


def test_encrypted_members_and_other_methods_are_refused(tmp_path):
    file = pack(tmp_path / "a.zip", [("a", "1")])
    content = bytearray(file.read_bytes())
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(content)
    refused(file, "must not be encrypted")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(pack(tmp_path / "b.zip", [("a", "1")], method), "deflate, got method")


def test_members_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "MOST_MEMBERS", 3)
    refused(pack(tmp_path / "a.zip", [(str(i), "") for i in range(4)]), "at most 3 members, got 4")


def test_a_directory_without_end_is_refused_before_objects_are_made_of_it(tmp_path):
    file = tmp_path / "a.zip"
    size = 60_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, size, 0, 0)
    with file.open("wb") as stream:
        stream.truncate(size)
        stream.seek(size)
        stream.write(end)
    refused(file, "100,000 members, got a directory of 60 MB")


def test_damaged_archives_are_told(tmp_path):
    file = pack(tmp_path / "a.zip", [("a", os.urandom(1000))])
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    refused(file, "must be a whole zip archive")
    file.write_bytes(whole[:300] + b"!" + whole[301:])
    with zips.opened(file) as archive, pytest.raises(ValueError, match=r"a\.zip/a: .*breaks"):
        archive.read("a")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "must be a regular file, got a named pipe")


def test_a_large_member_is_read_as_a_whole_only_within_the_limit(tmp_path):
    file = pack(tmp_path / "a.zip", [("a", bytes(3_000_000))])
    with zips.opened(file) as archive:
        with pytest.raises(ValueError, match=r"a.zip/a: at most 2 MB .*got 3 MB"):
            archive.read("a", most_mb=2)
        with archive.stream("a") as stream:
            assert isinstance(stream, io.BufferedReader)
