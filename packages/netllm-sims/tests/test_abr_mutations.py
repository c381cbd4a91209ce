"""Damaged traces and videos are refused by name, or are what a plain reader makes of them."""

import csv
import io
import os
import random

import numpy as np
import pytest
from netllm_sims.abr import load_trace, load_video

COUNT = int(os.environ.get("NETLLM_MUTATIONS", "60"))
ODD = [b"nan", b"1e308", b"-1", b"", b'"', b"\xff", b"\0", b"9" * 5000, b"1_0", b"#", b",", b"0x1"]
POINTS = [(0.5 * i, 0.7 + (i * 37 % 11) / 4) for i in range(40)]


def mutated(content, rng):
    kind = rng.choice(["cut", "flip", "drop", "twice", "swap", "cell", "insert"])
    at = rng.randrange(len(content))
    lines = content.split(b"\n")
    line = rng.randrange(len(lines) - 1)
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == "insert":
        return content[:at] + rng.choice(ODD) + content[at:]
    if kind == "drop":
        del lines[line]
    elif kind == "twice":
        lines.insert(line, lines[line])
    elif kind == "swap":
        lines[line], lines[line - 1] = lines[line - 1], lines[line]
    else:
        cells = lines[line].split(b",")
        cells[rng.randrange(len(cells))] = rng.choice(ODD)
        lines[line] = b",".join(cells)
    return b"\n".join(lines)


def rows(content):
    """Lines of a file that are no comments, read in the plainest way."""
    lines = io.StringIO(content.decode("utf-8-sig"), newline=None).read().split("\n")
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def two_columns(content):
    return np.array([[float(cell) for cell in row.split()] for row in rows(content)]).T


def table(content):
    names, *cells = csv.reader(rows(content), strict=True)
    if any(len(row) != len(names) for row in cells):
        raise ValueError(names)
    time_s = [float(row[names.index("time_s")]) for row in cells]
    return np.array([time_s, [float(row[names.index("bandwidth_kbps")]) / 1e3 for row in cells]])


def packets(content):
    times_ms = [int(row) for row in rows(content)]
    return np.array([times_ms[-1] / 1e3, len(times_ms) * 0.012])


def points(trace):
    return np.stack([trace.time_s, trace.bandwidth_mbps])


def period_and_megabits(trace):
    return np.array([trace.period_s, np.diff(trace.time_s) @ trace.bandwidth_mbps[1:]])


TRACES = {
    "two columns": ("".join(f"{s}\t{mbps}\n" for s, mbps in POINTS), two_columns, points),
    "CSV": (
        "who,time_s,bandwidth_kbps\n" + "".join(f"a,{s},{m * 1e3}\n" for s, m in POINTS),
        table,
        points,
    ),
    "Mahimahi": ("".join(f"{i * 7}\n" for i in range(1, 300)), packets, period_and_megabits),
}


def loaded(load):
    """What was loaded, or the message of the error."""
    try:
        return load()
    except ValueError as fault:
        return str(fault)


@pytest.mark.parametrize("name", list(TRACES))
def test_a_damaged_trace_is_refused_by_name_or_means_what_it_says(tmp_path, name):
    text, plain, meaning = TRACES[name]
    file, refused = tmp_path / "trace", 0
    for number in range(COUNT):
        file.write_bytes(mutated(text.encode(), random.Random(f"{name} {number}")))
        trace = loaded(lambda: load_trace(file))
        if isinstance(trace, str):
            refused += 1
            assert trace.startswith(f"{file}:"), number
            assert len(trace) < 1000, number
        else:
            assert meaning(trace) == pytest.approx(plain(file.read_bytes()), rel=1e-9), number
    assert refused > COUNT / 4


def test_a_damaged_video_is_refused_by_name_or_means_what_it_says(tmp_path):
    rates = (300, 750, 1200)
    refused = 0
    for number in range(COUNT):
        rng = random.Random(number)
        for level, rate in enumerate(rates):
            text = "".join(f"{rate * 500 + i * 13 % 17}\n" for i in range(20)).encode()
            content = mutated(text, rng) if level == 1 else text
            (tmp_path / f"video_size_{level}").write_bytes(content)
        video = loaded(lambda: load_video(tmp_path, rates_kbps=rates))
        if isinstance(video, str):
            refused += 1
            assert video.startswith(f"{tmp_path}/video_size_"), number
        else:
            sizes = [float(row) for row in rows((tmp_path / "video_size_1").read_bytes())]
            assert video.sizes_bytes[:, 1].tolist() == sizes, number
    assert refused > COUNT / 4
