import gzip
import hashlib
import os
import re
import tracemalloc

import numpy as np
import pytest
from netllm_sims.abr import Trace, load_trace, load_traces


def write(folder, text, name="trace"):
    file = folder / name
    file.write_text(text)
    return file


def rows(step_s, mbps):
    return "".join(f"{i * step_s} {mbps}\n" for i in range(21))


def test_two_columns_are_seconds_and_mbps(tmp_path):
    trace = load_trace(write(tmp_path, "0.0\t0.8\n5.0\t0\n\n# outage over\n10.5 1.25\n"))
    assert trace.id == "trace"
    assert trace.time_s.tolist() == [0, 5, 10.5]
    assert trace.bandwidth_mbps.tolist() == [0.8, 0, 1.25]
    assert trace.period_s == 10.5


def test_mahimahi_lines_are_packets_of_1500_bytes_counted_per_bin(tmp_path):
    # by hand: 3 packets in (0, 1] s, 1 in (1, 2] s; 12,000 bits each
    trace = load_trace(write(tmp_path, "500\n1000\n1000\n2000\n"))
    assert trace.time_s.tolist() == [0, 1, 2]
    assert trace.bandwidth_mbps[1:] == pytest.approx([0.036, 0.012])


def test_mahimahi_bins_keep_period_and_bytes(tmp_path):
    times_ms = np.sort(np.random.default_rng(0).integers(1, 12_345, 5000))
    file = write(tmp_path, "\n".join(map(str, times_ms)))
    for bin_s in (0.1, 1.0, 60.0):
        trace = load_trace(file, bin_s=bin_s)
        bits = np.diff(trace.time_s) @ trace.bandwidth_mbps[1:] * 1e6
        assert trace.period_s == times_ms[-1] / 1000
        assert bits == pytest.approx(5000 * 12_000)


def test_mahimahi_bins_must_have_a_width(tmp_path):
    with pytest.raises(ValueError, match="bin_s"):
        load_trace(write(tmp_path, "500\n1000\n"), bin_s=0)


@pytest.mark.parametrize(
    "text",
    [
        "time_s,bandwidth_mbps\n0,1.5\n2,0.25\n",
        "\ufeffplace;Throughput_kbps;Timestamp_ms\nOslo;1500;0\nBergen;250;2000\n",
        '"time","bps"\n"0","1500000"\n"2","250000"\n',
        '"place; city","time","bps"\n"Oslo, ""S""",0,1500000\n"Bergen, NO",2,250000\n',
        '"time_s,mbps"\n"0,1.5"\n"2,0.25"\n',
        "time_s bandwidth\n0 1.5\n2 0.25\n",
    ],
)
def test_a_header_names_columns_and_units(tmp_path, text):
    trace = load_trace(write(tmp_path, text))
    assert trace.time_s.tolist() == [0, 2]
    assert trace.bandwidth_mbps.tolist() == [1.5, 0.25]


EPOCH = "timestamp,throughput_mbps\n" + "".join(f"{1_700_000_000 + i},2\n" for i in range(100))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "empty file"),
        ("# only a comment\n\n", 1, "empty file"),
        ("0 1\n5 fast\n", 2, "must be numbers, got '5 fast'"),
        ("zero 1\n5 2\n", 1, "must be numbers"),
        ("0 1\n\n5 2\n4 2\n", 4, "must not run back, got 4 s after 5 s"),
        ("-1 1\n5 2\n", 1, "must not run back"),
        ("0 1\n5 -2\n6 1\n", 2, "must be >= 0 Mbit/s, got -2"),
        ("0 1\n5 nan\n", 2, "finite"),
        ("0 1\ninf 2\n", 2, "finite"),
        ("0 1\n5 2 3\n", 2, "must hold 2 columns"),
        ("1.5\n2.5\n", 1, "must hold 2 columns"),
        ("500\n1000\nx\n", 3, "one whole millisecond"),
        ("500\n-3\n", 2, "one whole millisecond"),
        ("500\n1000\n400\n", 3, "must not run back, got 400 ms after 1000 ms"),
        ("0\n0\n", 2, "its period"),
        ("0,1.5\n2,1\n", 1, "the header must name"),
        ("time_s,speed\n0,1\n", 1, "the header must name"),
        ("time_s,mbps\n0,1\n1,fast\n", 3, "must be numbers"),
        ("time_s,mbps\n0,1\n1\n", 3, "must hold 2 columns"),
        ('time_s,mbps\n0,"1,2\n1,2\n', 2, "quotes must be closed"),
        ('time_s,mbps\n0,1\n1,"200\n', 3, "quotes must be closed"),
        ('time_s,mbps\n0,"1,2",3\n1,2\n', 2, "must hold 2 columns"),
        (f'time_s,mbps\n0,1\n"{"1" * 200_000}",1,"2"\n', 3, "must hold 2 columns"),
        (EPOCH, 2, "start, got 1700000000 s at its first point and 99 s from .*Subtract the first"),
        ("timestamp_ms mbps\n1700000000000 1\n1700000009000 2\n", 2, "got 1700000000 s .* 9 s"),
        ("50000 1\n50300 2\n", 1, "must count from the trace's start"),
        ("# day\n1700000000000\n1700000000500\n1700000001000\n", 2, "got 1700000000 s .* 1 s"),
        ("5\n10000000000000\n", 2, "at most 10,000,000 bins, got more with `bin_s` of 1 s"),
        ("5\n99999999999999999999\n", 2, "at most 15 digits, got '99999999999999999999'"),
        (f"5\n{'9' * 5000}\n", 2, "at most 15 digits, got '99999"),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path, text, line, message):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        load_trace(file)
    assert str(caught.value).startswith(f"{file}:{line}: ")


@pytest.mark.parametrize(
    ("text", "lines", "message"),
    [
        ("# mute\n0 0\n5 0\n9 0\n", "2-4", "some bandwidth"),
        ("0 3\n5 0\n9 0\n", "1-3", "first value is never used"),
        ("0 1\n", "1-1", "at least two points"),
        ("0 1\n0 1\n", "1-2", "some bandwidth"),
        ("0 1e-300\n1 1e-300\n", "1-2", "at least 1 byte, .*got 1e-294 bits in 1 s"),
        ("0 1\n1e-9 1\n", "1-2", "at least 1 byte, .*got 0.001 bits in 1e-09 s"),
        ("0 1\n100 9e-7\n", "1-2", "1 bit/s in the mean, got 90 bits in 100 s"),
        ("time,mbps\n", "1-1", "at least two points"),
    ],
)
def test_a_bad_whole_is_named_by_its_file_and_lines(tmp_path, text, lines, message):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        load_trace(file)
    assert str(caught.value).startswith(f"{file}:{lines}: ")


@pytest.mark.parametrize("text", ["3000 1\n3300 2\n", "9000 1\n20000 2\n", "3000000\n3300000\n"])
def test_a_trace_may_begin_a_while_after_its_start(tmp_path, text):
    assert load_trace(write(tmp_path, text)).period_s in (3300, 20000)


def test_a_binary_file_is_no_trace(tmp_path):
    file = tmp_path / "trace"
    file.write_bytes(b"0 1\n\x8b\x08\xff\xfe")
    with pytest.raises(ValueError, match=r"trace:2: .*text file in UTF-8"):
        load_trace(file)
    file.write_bytes(b"\x1f\x8b\x08\xff\xfe")
    with pytest.raises(ValueError, match=r"trace: the packing breaks"):
        load_trace(file)


def test_a_packed_trace_is_the_same_trace(tmp_path):
    text = "time_s,bandwidth_mbps\n0,1.5\n2,0.25\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    packed = load_trace(tmp_path / "a.csv.gz")
    assert packed.digest == load_trace(write(tmp_path, text)).digest


def test_a_trace_of_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_READ_LIMIT", "1MB")
    file = tmp_path / "trace.gz"
    file.write_bytes(gzip.compress(b"0 1\n" * 500_000))
    with pytest.raises(ValueError, match=r"trace.gz: at most 1 MB .*NETLLM_READ_LIMIT"):
        load_trace(file)


def test_a_pipe_is_refused_by_its_name_in_a_folder_too(tmp_path):
    write(tmp_path, "0 1\n1 2\n")
    os.mkfifo(tmp_path / "pipe")
    for load, path in [(load_trace, tmp_path / "pipe"), (load_traces, tmp_path)]:
        with pytest.raises(ValueError, match="pipe: must be a regular file, got a named pipe"):
            load(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0 1\n5 1e308\n", 2),
        ("0 1\n1e308 2\n", 2),
        ("time_ms,bandwidth_bps\n0,1\n1,1e16\n", 3),
    ],
)
def test_numbers_without_meaning_are_refused(tmp_path, text, line):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=rf"trace:{line}: .*at most 1e\+15"):
        load_trace(file)


def test_numbers_without_meaning_are_refused_in_memory():
    with pytest.raises(ValueError, match=r"point 1: .*at most 1e\+15, got 1 s and 1e\+308 Mbit/s"):
        Trace("t", np.array([0.0, 1]), np.array([1.0, 1e308]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows(1, 1850), "median bandwidth is 1,850 Mbit/s, expected at most 200 .*kbit/s"),
        ("time bandwidth\n" + rows(1, 1850), "median bandwidth is 1,850 Mbit/s"),
        ("time_s bandwidth_kbps\n" + rows(1, 2), "never exceeds 2 kbit/s, expected at least 20"),
        (rows(1000, 2), "time between points is 1,000 s, expected at most 100 s. .*`time_ms"),
        (rows(1, 2) + "5000 3\n", "comes 4,[0-9]+ s after the one before, and its bandwidth holds"),
        ("time_ms mbps\n" + rows(1, 2), "whole trace lasts 0.02 s, expected at least 1 s"),
        ("".join(f"{i}\n" for i in range(1, 300)), "whole trace lasts 0.299 s"),
    ],
)
def test_other_units_are_told(tmp_path, caplog, text, message):
    file = write(tmp_path, text)
    load_trace(file)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"{file}: ")
    assert re.search(message, record.getMessage())


def test_units_that_a_header_names_are_believed(tmp_path, caplog):
    load_trace(write(tmp_path, "time_s bandwidth_mbps\n" + rows(1, 1850)))
    load_trace(write(tmp_path, rows(5, 100)))
    assert not caplog.records


def test_a_folder_in_other_units_is_told_once(tmp_path, caplog):
    for name in "abc":
        write(tmp_path, rows(1, 1850 if name != "a" else 2), name)
    load_traces(tmp_path)
    load_traces(tmp_path)
    (record,) = caplog.records
    first = re.escape(str(tmp_path / "b"))
    assert re.search(f"in 2 of 3 files, first in {first}, the median", record.getMessage())


def test_long_traces_are_read_in_little_memory(tmp_path):
    points = 200_000
    file = write(tmp_path, "".join(f"{i / 10} {1 + i % 7}.50000000\n" for i in range(points)))
    tracemalloc.start()
    try:
        assert load_trace(file).period_s == (points - 1) / 10
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 8 bytes for each of time, bandwidth and line; lists of Python's numbers took 290 per point
    assert peak < 80 * points + 16_000_000


def test_a_moment_without_bandwidth_is_legal():
    assert Trace("t", np.array([0.0, 1, 2]), np.array([1.0, 0, 3])).period_s == 2


def test_a_folder_gives_its_files_by_name(tmp_path):
    for name in ("b", "a", ".hidden"):
        write(tmp_path, "0 1\n1 2\n", name)
    (tmp_path / "c").mkdir()
    assert [trace.id for trace in load_traces(tmp_path)] == ["a", "b"]


def test_a_folder_must_exist_and_hold_traces(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_traces(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at least one file"):
        load_traces(tmp_path)


def test_the_digest_tells_content_not_name():
    points = np.array([0.0, 1]), np.array([1.0, 2])
    assert Trace("a", *points).digest == Trace("b", *points).digest
    assert Trace("a", *points).digest != Trace("a", points[0], np.array([1.0, 3])).digest


def test_a_trace_cannot_be_changed():
    time_s = np.array([0.0, 1])
    trace = Trace("a", time_s, np.array([1.0, 2]))
    time_s[1] = 9
    assert trace.period_s == 1
    with pytest.raises(ValueError, match="read-only"):
        trace.time_s[1] = 9


def test_points_are_checked_in_memory_too():
    with pytest.raises(ValueError, match=r"Trace `t`, point 1: .*>= 0 Mbit/s"):
        Trace("t", np.array([0.0, 1]), np.array([1.0, -1]))


def test_equal_digests_are_equal_files_in_the_published_traces(real_data):
    digests, hashes = [], []
    for name in ("fcc-test", "fcc-train"):
        folder = real_data / "abr" / "traces" / name
        digests += [trace.digest for trace in load_traces(folder)]
        hashes += [hashlib.sha256(file.read_bytes()).digest() for file in sorted(folder.iterdir())]
    assert len(digests) == 335
    assert len(set(digests)) == len(set(hashes)) == len(set(zip(digests, hashes, strict=True)))
