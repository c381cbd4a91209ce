import bz2
import gzip
import io
import lzma
import os
import socket
import tracemalloc

import pytest
from netllm_sims.files import reading


@pytest.fixture(autouse=True)
def usual_limit(monkeypatch):
    monkeypatch.delenv(reading.LIMIT, raising=False)


def exhaust(file):
    with reading.opened(file) as stream:
        while stream.read(1 << 16):
            pass


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_unpacked_whatever_their_name(tmp_path, pack):
    file = tmp_path / "trace"
    file.write_bytes(pack(b"\xef\xbb\xbf0 1\n1 2\n"))
    assert reading.read_text(file) == "0 1\n1 2\n"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_what_unpacks_beyond_the_limit_is_refused_in_little_memory(tmp_path, monkeypatch, pack):
    file = tmp_path / "bomb"
    file.write_bytes(pack(b"0" * 40_000_000))
    monkeypatch.setenv(reading.LIMIT, "20")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"at most 20 MB .*got more.*=40MB") as caught:
            exhaust(file)
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{file}: ")
    monkeypatch.setenv(reading.LIMIT, "0.05GB")
    assert len(reading.read_bytes(file)) == 40_000_000


def test_a_plain_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(3_000_000)
    monkeypatch.setenv(reading.LIMIT, "2MB")
    with pytest.raises(ValueError, match=r"large: at most 2 MB .*got 3 MB.* set the environment"):
        reading.read_bytes(file)


@pytest.mark.parametrize("wrong", ["much", "-1", "0", "nan", "inf", "GB", "1e300"])
def test_the_limit_must_be_a_size(monkeypatch, wrong):
    monkeypatch.setenv(reading.LIMIT, wrong)
    with pytest.raises(ValueError, match=r"NETLLM_READ_LIMIT must be a size .*8GB"):
        reading.most_bytes()


def test_the_limit_has_units(monkeypatch):
    assert reading.most_bytes(7) == 7_000_000
    for words, size in [("1.5", 1_500_000), ("3 mb", 3_000_000), ("8GB", 8_000_000_000)]:
        monkeypatch.setenv(reading.LIMIT, words)
        assert reading.most_bytes(7) == size


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe: must be a regular file, got a named pipe"):
        reading.read_bytes(tmp_path / "pipe")


def test_devices_sockets_and_folders_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="/dev/zero: must be a regular file, got a device"):
        reading.read_bytes("/dev/zero")
    with pytest.raises(ValueError, match="got a folder"):
        reading.read_bytes(tmp_path)
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(ValueError, match="s: must be a regular file, got a socket"):
            reading.read_bytes("s")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        reading.read_bytes(tmp_path / "nowhere")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_damaged_packing_is_told_with_the_file(tmp_path, pack):
    packed = pack(os.urandom(5000))
    for number, content in enumerate([packed[:-20], packed[:40] + b"!!" + packed[42:]]):
        file = tmp_path / f"trace{number}"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"trace{number}: .*breaks after .* Fetch"):
            reading.read_bytes(file)


@pytest.mark.parametrize(
    ("start", "packing"), [(b"PK\x03\x04", "zip"), (b"\x28\xb5\x2f\xfd", "zstd")]
)
def test_other_packings_are_named(tmp_path, start, packing):
    (tmp_path / "trace").write_bytes(start + b"rest")
    with pytest.raises(ValueError, match=rf"trace:1: .*packed by {packing}. Unpack it"):
        reading.read_text(tmp_path / "trace")


def test_xz_that_asks_for_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
    compressor = lzma.LZMACompressor(filters=filters)
    (tmp_path / "trace.xz").write_bytes(compressor.compress(b"0 1\n") + compressor.flush())
    with pytest.raises(ValueError, match=r"trace.xz:1: .*[Mm]emory"):
        reading.read_bytes(tmp_path / "trace.xz")


def test_other_bytes_than_utf8_are_told_with_their_line(tmp_path):
    (tmp_path / "trace").write_bytes(b"0 1\n1 2\n2 \xff\n")
    with pytest.raises(ValueError, match=r"trace:3: must be a text file in UTF-8, got .* 0xff"):
        reading.read_text(tmp_path / "trace")


def test_lines_are_numbered_and_bounded(monkeypatch):
    stream = io.BytesIO(b"\xef\xbb\xbfone\ntwo\n\nfour")
    assert list(reading.lines(stream, "f")) == [
        (1, b"one\n"),
        (2, b"two\n"),
        (3, b"\n"),
        (4, b"four"),
    ]
    monkeypatch.setattr(reading, "MOST_LINE_MB", 1)
    long = io.BytesIO(b"one\n" + b"x" * 1_000_001)
    with pytest.raises(ValueError, match="f:2: a line must have at most 1 MB, got more"):
        list(reading.lines(long, "f"))
    long.seek(0)
    with pytest.raises(ValueError, match="f:2: a line must have at most 1 MB, got more"):
        list(reading.blocks(long, "f", size=1000))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_blocks_are_whole_lines_and_know_their_number(size):
    content = b"\xef\xbb\xbfa\r\nbb\n\nccc\rd"
    found = list(reading.blocks(io.BytesIO(content), "f", size=size))
    assert b"".join(block.content for block in found) == b"a\nbb\n\nccc\nd"
    line = 1
    for block in found:
        assert block.line == line
        assert block is found[-1] or block.content.endswith(b"\n")
        line += block.content.count(b"\n")
