import gzip
import json
import os
import random

import numpy as np
import pytest
from netllm_sims import abr
from netllm_sims.abr import importers

# the examples of the data sets' own pages
NORWAY = """1289406399 549692 59.851754 10.781778 248069 1008
1289406400 550772 59.851864 10.781833 191698 1080
1289406401 551773 59.851964 10.781901 280579 1001
1289406402 552893 59.85206  10.781969 248971 1120
"""
GHENT = """1453121790686 39287 51.0386528885778 3.73220785642186 2493100 1000
1453121791687 40288 51.0386532820580 3.73222847166054 2763504 1001
1453121792686 41287 51.0386553301824 3.73225142858955 2728896 0999
1453121793686 42287 51.0386567711171 3.73227435543338 1954600 1000
"""
SABRE = [
    {"duration_ms": 148, "bandwidth_kbps": 3133, "latency_ms": 20},
    {"duration_ms": 1000, "bandwidth_kbps": 18052, "latency_ms": 20},
    {"duration_ms": 1000, "bandwidth_kbps": 25111, "latency_ms": 20},
]
MOVIE = {
    "segment_duration_ms": 3000,
    "bitrates_kbps": [1000, 2000, 4000],
    "segment_sizes_bits": [[3000000, 6000000, 12000000], [3177801, 6311760, 12310936]],
}
LUMOS = "run_num,seq_num,nrStatus,Throughput,mobility_mode,trajectory_direction\n"
LUMOS += "".join(f"1,{i},CONNECTED,{100 * i},walking,CW\n" for i in (1, 2, 3, 5, *range(7, 13)))
LUMOS += "".join(f"1,{i},NONE,{i},driving,CW\n" for i in range(1, 12))
LUMOS += "2,1,NONE,5,walking,CW\n2,2,NONE,,walking,CW\n"
UCC = "Timestamp,Longitude,NetworkMode,DL_bitrate,UL_bitrate,State\n"
UCC += "".join(
    f"2019.12.14_09.59.{second:02d},-8.4,5G,{kbps},1,D\n"
    for second, kbps in [(57, 4000), (58, 1000), (58, 3000), (59, 500)]
)
UCC += "2019.12.14_10.00.01,-8.4,5G,8000,1,D\n"
UCC_4G = (
    "Timestamp,Longitude,Latitude,Speed,Operatorname,CellID,NetworkMode,RSRP,RSRQ,SNR,CQI,RSSI,"
    "DL_bitrate,UL_bitrate,State,NRxRSRP,NRxRSRQ,ServingCell_Lon,ServingCell_Lat,"
    "ServingCell_Distance\n"
)
UCC_4G += "".join(
    f"2017.11.22_10.07.{second:02d},-8.5,51.8,4,A,2,LTE,-119,-14,2.0,6,-94,{kbps},194,D,-120.0,"
    "-18.0,-8.49,51.89,609.7\n"
    for second, kbps in [(3, 5178), (4, 6990), (5, 0)]
)
START_NS = 1_573_000_000_123_456_789
SENT = "time (ns GMT),session_id,index,expt_id,channel,video_ts,format,size,rtt,delivery_rate\n"
SENT += "".join(
    f"{START_NS + i * 2_002_000_000},a/b+{who}=,{index},7,abc,0,1280x720-20,9,9,{rate * 1000}\n"
    for i in range(8)
    for who, index, rate in [("x", 0, 125 + i), ("y", 1, 250)]
)
SENT += f"{START_NS},a/b+z=,0,7,abc,0,1280x720-20,9,9,1000\n"
BUFFER = "time (ns GMT),session_id,index,expt_id,channel,event,buffer,cum_rebuf\n"
BUFFER += f"{START_NS},a/b+x=,0,7,abc,init,0,0\n{START_NS + 9},a/b+x=,0,7,abc,startup,2.0,0.1\n"
BUFFER += f"{START_NS},a/b+y=,1,7,abc,init,0,0\n"
MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">
 <Period>
  <AdaptationSet mimeType="audio/mp4"><Representation bandwidth="1"/></AdaptationSet>
  <AdaptationSet mimeType="video/mp4">
   <Representation id="b" bandwidth="800000">
    <SegmentList timescale="1000" duration="4000">
     <SegmentURL mediaRange="1000-400999"/><SegmentURL mediaRange="401000-811999"/>
     <SegmentURL mediaRange="812000-900000"/>
    </SegmentList>
   </Representation>
   <Representation id="a" bandwidth="400000">
    <SegmentList timescale="1000" duration="4000">
     <SegmentURL mediaRange="0-199999"/><SegmentURL mediaRange="200000-404999"/>
     <SegmentURL mediaRange="405000-410000"/>
    </SegmentList>
   </Representation>
  </AdaptationSet>
 </Period>
</MPD>
"""
SOURCES = {
    "norway": NORWAY,
    "ghent": GHENT,
    "sabre": json.dumps(SABRE, indent=1),
    "sabre-movie": json.dumps(MOVIE, indent=1),
    "lumos5g": LUMOS,
    "4gdataset": UCC_4G,
    "5gdataset": UCC,
    "puffer": SENT,
    "dash": MPD,
}


def write(folder, text, name="report"):
    file = folder / name
    file.write_text(text)
    return file


def imported(tmp_path, source, *files):
    """What an import wrote, and its traces by name, read by our own loader."""
    done = importers.run(source, files, tmp_path / "out")
    return done, {trace.id: trace for trace in abr.load_traces(tmp_path / "out")}


def refused(tmp_path, source, file, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        importers.run(source, [file], tmp_path / "out")
    assert str(caught.value).startswith(str(file))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out-*"))


def test_norway_has_bytes_per_milliseconds(tmp_path):
    done, traces = imported(tmp_path, "norway", write(tmp_path, NORWAY, "report.2010.log"))
    trace = traces["report.2010.csv"]
    assert (done.made, done.left_out, done.settings) == (1, 0, {"traces": str(tmp_path / "out")})
    # ends of 1008, 1080, 1001 and 1120 ms; 248,069 bytes in 1,008 ms are 1.96880… Mbit/s
    assert trace.time_s.tolist() == [0, 1.008, 2.088, 3.089, 4.209]
    assert trace.bandwidth_mbps[0] == trace.bandwidth_mbps[1]
    rates = [1.968801587, 1.419985185, 2.242389610, 1.778364286]
    assert trace.bandwidth_mbps[1:] == pytest.approx(rates, abs=1e-8)


def test_ghent_has_bytes_per_milliseconds(tmp_path):
    _, traces = imported(tmp_path, "ghent", write(tmp_path, GHENT, "report_bus_0001.log"))
    trace = traces["report_bus_0001.csv"]
    assert trace.time_s.tolist() == [0, 1, 2.001, 3, 4]
    assert trace.bandwidth_mbps[1:] == pytest.approx([19.9448, 22.085946, 21.853021, 15.6368])


def test_the_bytes_of_a_log_are_kept(tmp_path):
    _, traces = imported(tmp_path, "norway", write(tmp_path, NORWAY))
    (trace,) = traces.values()
    megabits = np.diff(trace.time_s) @ trace.bandwidth_mbps[1:]
    assert megabits == pytest.approx((248069 + 191698 + 280579 + 248971) * 8e-6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3 4 5", "must hold 6 columns, .*right source"),
        ("1 2 3 4 5 0", "the ms > 0 in which they came, got 5 and 0"),
        ("1 2 3 4 -5 1", "bytes >= 0"),
        ("1 2 3 4 x 1", "must be numbers"),
    ],
)
def test_a_bad_line_of_a_log_is_named(tmp_path, line, message):
    file = write(tmp_path, NORWAY + line + "\n")
    refused(tmp_path, "norway", file, f"report:5: .*{message}")


def test_sabre_has_durations_and_kilobits(tmp_path):
    file = tmp_path / "report_bus_0002.json.gz"
    file.write_bytes(gzip.compress(json.dumps(SABRE).encode()))
    _, traces = imported(tmp_path, "sabre", file)
    (trace,) = traces.values()
    assert trace.time_s.tolist() == [0, 0.148, 1.148, 2.148]
    assert trace.bandwidth_mbps.tolist() == [3.133, 3.133, 18.052, 25.111]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"duration_ms": 0, "bandwidth_kbps": 1}], r"at \$\[0\]: `duration_ms` must be > 0"),
        ([{"duration_ms": 1, "bandwidth_kbps": -1}], "`bandwidth_kbps` >= 0"),
        ([{"duration_ms": 1}], "missing required field `bandwidth_kbps`"),
        ([{"duration_ms": 1, "bandwidth_kbps": "2"}], "Expected `float`, got `str`"),
        ([], "at least two points"),
        ({}, "Expected `array`"),
    ],
)
def test_other_json_is_no_trace_of_sabre(tmp_path, content, message):
    refused(tmp_path, "sabre", write(tmp_path, json.dumps(content)), message)


def test_a_movie_of_sabre_has_bits(tmp_path):
    done = importers.run("sabre-movie", [write(tmp_path, json.dumps(MOVIE))], tmp_path / "out")
    assert done.settings == {
        "video": str(tmp_path / "out"),
        "rates_kbps": "1000,2000,4000",
        "chunk_s": "3",
        "chunks": "2",
    }
    video = abr.load_video(tmp_path / "out", rates_kbps=(1000, 2000, 4000), chunk_s=3)
    # 3,177,801 bits are 397,225 bytes and a bit
    assert video.sizes_bytes.tolist() == [[375000, 750000, 1500000], [397226, 788970, 1538867]]
    words = (tmp_path / "out" / "settings.txt").read_text()
    assert words == "rates_kbps=1000,2000,4000\nchunk_s=3\nchunks=2\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bitrates_kbps": []}, "must not be empty"),
        ({"segment_sizes_bits": []}, "must not be empty"),
        ({"segment_sizes_bits": [[1, 2]]}, r"segment_sizes_bits\[0\]: .*3 bitrates, got 2"),
        ({"bitrates_kbps": [2, 1, 3]}, "must be positive and rise"),
        ({"segment_duration_ms": 0}, "`chunk_s` must be > 0"),
        ({"segment_sizes_bits": [[0, 1, 2]] * 2}, "> 0 bytes"),
    ],
)
def test_other_movies_are_refused(tmp_path, changes, message):
    refused(tmp_path, "sabre-movie", write(tmp_path, json.dumps(MOVIE | changes)), message)


def test_lumos5g_has_a_trace_per_run_in_seconds(tmp_path):
    done, traces = imported(tmp_path, "lumos5g", write(tmp_path, LUMOS, "Lumos5G-v1.0.csv"))
    assert (done.made, done.left_out) == (2, 1)
    walk = traces["Lumos5G-v1.0-walking-CW-1.csv"]
    assert walk.time_s.tolist() == [0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12]
    assert walk.bandwidth_mbps.tolist()[:6] == [100, 100, 200, 300, 500, 700]
    assert traces["Lumos5G-v1.0-driving-CW-1.csv"].period_s == 11


def test_seconds_of_a_run_must_rise(tmp_path):
    file = write(tmp_path, LUMOS + "1,3,NONE,5,driving,CW\n")
    refused(tmp_path, "lumos5g", file, r"report:25: `seq_num` must rise within a run, got 3")


def test_the_5g_dataset_has_stamps_and_kilobits(tmp_path):
    _, traces = imported(tmp_path, "5gdataset", write(tmp_path, UCC, "B_2019.12.14.csv"))
    trace = traces["B_2019.12.14.csv"]
    # two rows of 09:59:58 count as their mean; 10:00:01 is two seconds after 09:59:59
    assert trace.time_s.tolist() == [0, 1, 2, 3, 5]
    assert trace.bandwidth_mbps.tolist() == [4, 4, 2, 0.5, 8]


def test_a_phones_clock_may_be_set_back_a_little(tmp_path):
    file = write(tmp_path, UCC + "2019.12.14_09.59.59,-8.4,5G,4000,1,D\n")
    _, traces = imported(tmp_path, "5gdataset", file)
    (trace,) = traces.values()
    assert trace.time_s.tolist() == [0, 1, 2, 3, 5]
    assert trace.bandwidth_mbps[-1] == 6


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2019-12-14 10:00:02,0,5G,1,1,D", "must be like 2019.12.14_09.06.24"),
        ("2019.12.14_09.59.58,0,5G,1,1,D", "must not run back"),
        ("2019.12.14_10.00.02,0,5G,-,1,D", "`DL_bitrate` must be a number >= 0"),
        ("2019.12.14_10.00.02,0,5G,1,1", "must have 6 cells as the header does, got 5"),
        ('2019.12.14_10.00.02,"0,5G,1,1,D', "must be a row of CSV"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    refused(tmp_path, "5gdataset", write(tmp_path, UCC + row + "\n"), f"report:7: .*{message}")


def test_another_header_is_told_with_what_lacks(tmp_path):
    file = write(tmp_path, UCC.replace("DL_bitrate", "DL"))
    refused(tmp_path, "5gdataset", file, "report:1: .*without DL_bitrate. Is this the right")


def test_puffer_has_a_trace_per_stream_in_bytes_per_second(tmp_path):
    done, traces = imported(tmp_path, "puffer", write(tmp_path, SENT))
    assert (done.made, done.left_out) == (2, 1)
    trace = traces["a_b_x_-0.csv"]
    assert trace.time_s == pytest.approx(np.arange(8) * 2.002, abs=1e-12)
    assert trace.bandwidth_mbps == pytest.approx(1 + np.arange(8) * 0.008)
    assert set(traces["a_b_y_-1.csv"].bandwidth_mbps) == {2.0}


def test_puffers_streams_that_never_played_are_left_out(tmp_path):
    sent, buffer = write(tmp_path, SENT), write(tmp_path, BUFFER, "client_buffer.csv")
    _, traces = imported(tmp_path, "puffer", buffer, sent)
    assert list(traces) == ["a_b_x_-0.csv"]


def test_puffers_rows_may_have_any_order(tmp_path):
    header, *lines = SENT.rstrip("\n").split("\n")
    file = write(tmp_path, "\n".join([header, *lines[::-1]]))
    _, traces = imported(tmp_path, "puffer", file)
    assert traces["a_b_x_-0.csv"].time_s == pytest.approx(np.arange(8) * 2.002, abs=1e-12)
    assert traces["a_b_x_-0.csv"].bandwidth_mbps[-1] == pytest.approx(1.056)


@pytest.mark.parametrize("stamp", ["1e18", "-5", "99999999999999999999", "9999999999999999999", ""])
def test_puffers_times_are_whole_nanoseconds(tmp_path, stamp):
    file = write(tmp_path, SENT + f"{stamp},a/b+x=,0,7,abc,0,f,9,9,1\n")
    refused(tmp_path, "puffer", file, "report:19: .*whole nanoseconds")


def test_a_manifest_has_ranges_of_bytes(tmp_path):
    done = importers.run("dash", [write(tmp_path, MPD, "manifest.mpd")], tmp_path / "out")
    assert done.settings["rates_kbps"] == "400,800"
    assert (done.settings["chunk_s"], done.settings["chunks"]) == ("4", "2")
    video = abr.load_video(tmp_path / "out", rates_kbps=(400, 800))
    # the last segment lasts 1 s of 4 and is left out
    assert video.sizes_bytes.tolist() == [[200_000, 400_000], [205_000, 411_000]]


def test_names_and_numbers_of_importers_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown importer 'norwy'. Did you mean norway"):
        importers.run("norwy", [], tmp_path / "out")
    with pytest.raises(ValueError, match="at least one file, got 0"):
        importers.run("norway", [], tmp_path / "out")
    with pytest.raises(ValueError, match="one file, got 2"):
        importers.run("dash", ["a", "b"], tmp_path / "out")


def test_a_folder_that_holds_something_is_not_written_to(tmp_path):
    file = write(tmp_path, NORWAY)
    with pytest.raises(FileExistsError, match="must be empty or not exist"):
        importers.run("norway", [file], tmp_path)
    (tmp_path / "out").mkdir()
    assert importers.run("norway", [file], tmp_path / "out").made == 1


def test_a_file_without_a_long_run_is_refused(tmp_path):
    file = write(tmp_path, "\n".join(LUMOS.split("\n")[:4]))
    refused(tmp_path, "lumos5g", file, "at least one run of 10 s, .*got 1 that are shorter")


@pytest.mark.parametrize("source", list(SOURCES))
def test_damaged_files_are_refused_by_name_or_read(tmp_path, source):
    odd = ["nan", "1e308", "-1", '"', "\\", "9" * 5000, "[" * 300, "<", "&", "\0", "1_0", ",", ""]
    text, file, named = SOURCES[source], tmp_path / "report", 0
    count = int(os.environ.get("NETLLM_MUTATIONS", "60"))
    for number in range(count):
        rng = random.Random(f"{source} {number}")
        at = rng.randrange(len(text))
        cut = rng.choice([1, 1, 5, 60, len(text)])
        content = (text[:at] + rng.choice(odd) + text[at + cut :]).encode()
        file.write_bytes(content if number % 9 else content[:at] + b"\xff" + content[at:])
        try:
            importers.run(source, [file], tmp_path / f"out{number}")
        except ValueError as fault:
            named += str(fault).startswith(str(file))
        except FileNotFoundError as fault:
            named += str(file) in str(fault)
        else:
            named += 1
    assert named == count
