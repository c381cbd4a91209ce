"""Files in the published formats, made here with numbers of our own."""

import gzip
import struct
from collections.abc import Sequence

import dpkt
import numpy as np
import pytest
from netllm_sims.flows import load_flows, setting, write_flows
from netllm_sims.flows.importers import pcap, run
from netllm_sims.flows.importers.pcap import IDLE_S
from netllm_sims.flows.importers.unsw_nb15 import COLUMNS, STATISTICS

START_S = 1_772_366_400.0  # 2026-03-01 12:00 UTC


def frame(source, target, payload, *, udp=False, flags=dpkt.tcp.TH_ACK, six=False, seq=1):
    """An Ethernet frame between two hosts, named by the last number of their addresses."""
    (a, sport), (b, dport) = (end.split(":") for end in (source, target))
    ports = {"sport": int(sport), "dport": int(dport)}
    body = b"x" * payload
    if udp:
        segment = dpkt.udp.UDP(**ports, data=body, ulen=8 + payload)
    else:
        segment = dpkt.tcp.TCP(**ports, flags=flags, data=body, seq=seq)
    number = 17 if udp else 6
    if six:
        addresses = {"src": bytes(15) + bytes([int(a)]), "dst": bytes(15) + bytes([int(b)])}
        ip = dpkt.ip6.IP6(**addresses, nxt=number, plen=len(segment), data=segment)
        return bytes(dpkt.ethernet.Ethernet(type=dpkt.ethernet.ETH_TYPE_IP6, data=ip))
    addresses = {"src": bytes([10, 0, 0, int(a)]), "dst": bytes([10, 0, 0, int(b)])}
    ip = dpkt.ip.IP(**addresses, p=number, data=segment)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip))


HUGE = struct.pack("<4I", 1, 0, 1 << 31, 0) + b"x"
TALK = (
    (0.0, frame("1:40000", "2:443", 0, flags=dpkt.tcp.TH_SYN)),
    (0.02, frame("2:443", "1:40000", 0, flags=dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK)),
    (0.03, frame("3:5000", "2:53", 40, udp=True, six=True)),
    (0.05, frame("1:40000", "2:443", 517)),
    (0.06, bytes(dpkt.ethernet.Ethernet(type=dpkt.ethernet.ETH_TYPE_ARP, data=b"?" * 28))),
    (0.09, frame("2:443", "1:40000", 1400)),
)


def capture(path, packets: Sequence[tuple[float, bytes]], *, writer=dpkt.pcap.Writer, **options):
    with path.open("wb") as file:
        made = writer(file, **options)
        for time_s, content in packets:
            made.writepkt(content, START_S + time_s)
    return path


@pytest.mark.parametrize("writer", [dpkt.pcap.Writer, dpkt.pcapng.Writer])
def test_a_capture_becomes_flows_of_both_directions(tmp_path, writer):
    file = capture(tmp_path / "web-2.pcap", TALK, writer=writer)
    done = run("pcap", [file], tmp_path / "out")
    assert (done.made, done.left_out) == (2, 1)
    flows = load_flows(tmp_path / "out")
    assert flows.label.tolist() == ["web", "web"]
    assert flows.host.tolist() == ["10.0.0.1", "::3"]
    assert flows.day.tolist() == ["2026-03-01"] * 2
    assert flows.protocol.tolist() == [6, 17]
    assert flows.server_port.tolist() == [443, 53]
    # IP: 20 bytes, TCP: 20; IPv6: 40, UDP: 8
    assert flows.sizes_bytes.tolist() == [[40, -40, 557, -1440], [88, 0, 0, 0]]
    assert flows.gaps_ms[0] == pytest.approx([0, 20, 30, 40], abs=1e-2)
    assert setting("default", **done.settings, split="none").classes == ("web",)


def test_a_pause_or_a_new_opening_begins_another_flow(tmp_path):
    syn, again = (
        frame("1:40000", "2:443", 0, flags=dpkt.tcp.TH_SYN, seq=seq) for seq in (1, 5_000)
    )
    data = frame("1:40000", "2:443", 9)
    times = [(0, syn), (1, syn), (1.1, data), (2, again), (3, data), (3.1 + IDLE_S, data)]
    done = run("pcap", [capture(tmp_path / "a.pcap", times)], tmp_path / "out")
    counts = (load_flows(done.out).sizes_bytes != 0).sum(axis=1)
    assert counts.tolist() == [3, 2, 1]


def test_an_opening_that_is_repeated_after_its_answer_was_lost_begins_no_other_flow(tmp_path):
    syn, answer = TALK[0][1], TALK[1][1]
    times = [(0, syn), (0.1, answer), (1, syn), (1.1, answer), (1.2, TALK[3][1])]
    done = run("pcap", [capture(tmp_path / "a.pcap", times)], tmp_path / "out")
    assert load_flows(done.out).sizes_bytes.tolist() == [[40, -40, 40, -40, 557]]


def test_sizes_are_those_of_ip_also_where_a_card_cuts_packets_or_they_are_huge(tmp_path):
    cut_by_the_card = bytearray(frame("1:40000", "2:443", 3_000))
    cut_by_the_card[16:18] = b"\0\0"  # the length in IP's header
    over_loopback = frame("1:40001", "2:443", 65_480, six=True)  # 65,540 bytes with both headers
    times = [(0, bytes(cut_by_the_card)), (1, over_loopback)]
    done = run("pcap", [capture(tmp_path / "a.pcap", times)], tmp_path / "out")
    assert load_flows(done.out).sizes_bytes.tolist() == [[3_040], [65_535]]


def test_a_packed_capture_is_read_as_the_command_promises(tmp_path):
    for suffix, writer in (("pcap", dpkt.pcap.Writer), ("pcapng", dpkt.pcapng.Writer)):
        file = capture(tmp_path / f"web.{suffix}", TALK, writer=writer)
        packed = tmp_path / f"web.{suffix}.gz"
        packed.write_bytes(gzip.compress(file.read_bytes()))
        assert run("pcap", [packed], tmp_path / suffix).made == 2
        packed.write_bytes(packed.read_bytes()[:-20])
        with pytest.raises(ValueError, match=f"web.{suffix}.gz: the packing breaks"):
            run("pcap", [packed], tmp_path / "out")


def block(kind: int, body: bytes) -> bytes:
    """A block of pcapng."""
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
NANOSECONDS = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
FIVE_THOUSAND_YEARS_LATER = struct.pack("<HHqHH", 14, 8, 1 << 40, 0, 0)


def interface(link: int = 1, options: bytes = b"") -> bytes:
    return block(1, struct.pack("<HHI", link, 0, 0) + options)


def packet(content: bytes, number: int = 0) -> bytes:
    at = struct.pack("<II", *divmod(int(START_S * 1e6), 1 << 32))
    return block(6, struct.pack("<I", number) + at + struct.pack("<I", len(content)) * 2 + content)


ETHERNET = packet(TALK[0][1])


def test_interfaces_that_are_alike_are_read_together(tmp_path):
    file = tmp_path / "a.pcapng"
    file.write_bytes(SECTION + interface() * 2 + ETHERNET + packet(TALK[1][1], 1))
    assert run("pcap", [file], tmp_path / "out").made == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (interface() + interface(101) + ETHERNET, "2 kinds .link types 1, 101"),
        (interface() + interface(1, NANOSECONDS) + ETHERNET, "2 kinds .link types 1, 1"),
        (interface() + ETHERNET + SECTION + interface(101), "2 kinds .link types 1, 101"),
        (interface() + block(3, struct.pack("<I", 54) + TALK[0][1]), "simple packet blocks"),
        (interface(1, FIVE_THOUSAND_YEARS_LATER) + ETHERNET, "a packet came 1.10128e.12 s after"),
        (interface(1, struct.pack("<HHHxxHH", 9, 2, 9, 0, 0)) + ETHERNET, "header cannot be read"),
    ],
    ids=["links", "units", "sections", "no-times", "far", "option"],
)
def test_a_pcapng_whose_times_or_links_are_not_one_kind_is_refused(tmp_path, content, message):
    file = tmp_path / "a.pcapng"
    file.write_bytes(SECTION + content)
    with pytest.raises(ValueError, match=rf"a\.pcapng: .*{message}"):
        run("pcap", [file], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [".pcap", " .pcap", "a\nb.pcap"])
def test_a_file_whose_name_names_nothing_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="the file's name must"):
        run("pcap", [capture(tmp_path / name, TALK)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_raw_ip_and_linux_cooked_captures_are_read(tmp_path):
    raw = [(time_s, one[14:]) for time_s, one in TALK if one[12:14] != b"\x08\x06"]
    cooked = [(at, b"\0\0\0\1\0\6" + bytes(8) + one[12:14] + one[14:]) for at, one in TALK]
    for link, packets in ((101, raw), (113, cooked)):
        file = capture(tmp_path / f"l{link}.pcap", packets, linktype=link)
        assert run("pcap", [file], tmp_path / f"out{link}").made == 2


def test_a_packet_that_dpkt_cannot_read_is_left_out(tmp_path):
    fragment, options = bytes([0, 0, 0, 0, 0, 0, 0, 1]), bytes([6, 0, 1, 4, 0, 0, 0, 0])
    ip = struct.pack(">IHBB", 6 << 28, 16, 44, 64) + bytes(32) + fragment + options
    strange = bytes(12) + b"\x86\xdd" + ip
    done = run("pcap", [capture(tmp_path / "a.pcap", [*TALK, (0.1, strange)])], tmp_path / "out")
    assert (done.made, done.left_out) == (2, 2)


def test_a_capture_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path):
    for name, writer in (("a.pcap", dpkt.pcap.Writer), ("b.pcapng", dpkt.pcapng.Writer)):
        file = capture(tmp_path / name, TALK, writer=writer)
        content = file.read_bytes()
        for cut in (*range(5, 300, 10), len(content) - 1):  # none lies between packets
            file.write_bytes(content[:cut])
            with pytest.raises(ValueError, match=name) as refused:
                run("pcap", [file], tmp_path / "out")
            assert len(str(refused.value)) < 400
    file.write_bytes(content[:-5])
    with pytest.raises(ValueError, match=r"b.pcapng: the capture breaks off: .*bytes must follow"):
        run("pcap", [file], tmp_path / "out")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: capture(p, TALK, linktype=105), "link type must be Ethernet .* got 105"),
        (lambda p: capture(p, TALK[4:5]), "must hold flows, got none and 1 other"),
        (lambda p: capture(p, [*TALK[3:], TALK[0], (-5, TALK[1][1])]), "order of their times"),
        (lambda p: p.write_text("host,day\n"), "must be a capture in pcap or pcapng"),
        (lambda p: p.write_bytes(b""), "must be a capture in pcap or pcapng, got an empty file"),
        (lambda p: p.write_bytes(gzip.compress(b"x")), "must be a capture in pcap or pcapng"),
        (
            lambda p: p.write_bytes(capture(p, TALK).read_bytes()[:24] + HUGE),
            "breaks off: 2,147,483,648 bytes must follow",
        ),
    ],
)  # fmt: skip
def test_what_is_no_capture_of_flows_is_refused(tmp_path, make, message):
    make(tmp_path / "x.pcap")
    with pytest.raises(ValueError, match=message):
        run("pcap", [tmp_path / "x.pcap"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


CIC = (
    "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp,"
    " Flow Duration, Total Fwd Packets, Total Backward Packets, Flow Bytes/s,"
    " Fwd Header Length, Fwd Header Length, Idle Min, Label"
)


def cic(path, *rows, header=CIC):
    path.write_bytes(("\r\n".join([header, *rows]) + "\r\n").encode("cp1252"))
    return path


def test_labelled_flows_of_cic_ids2017_keep_all_their_statistics(tmp_path):
    file = cic(
        tmp_path / "Thursday.csv",
        "1-2,192.168.10.5,88,8.8.8.8,443,6,06/07/2017 08:55:58,3,2,1,Infinity,4,4,0,BENIGN",
        ",,,,,,,,,,,,,,",
        "1-3,172.16.0.1,89,8.8.8.8,80,6,6/7/2017 9:15,30,20,10,1.5e3,4,4,7,Web Attack – XSS",
    )
    done = run("cic-ids2017", [file], tmp_path / "out")
    assert (done.made, done.left_out) == (2, 1)
    assert done.settings == {"flows": str(tmp_path / "out"), "benign": "BENIGN"}
    flows = load_flows(done.out)
    assert flows.label.tolist() == ["BENIGN", "Web Attack - XSS"]
    assert flows.host.tolist() == ["192.168.10.5", "172.16.0.1"]
    assert {*flows.day.tolist()} == {"2017-07-06"}
    assert flows.statistic_names == (
        *("Flow Duration", "Total Fwd Packets", "Total Backward Packets"),
        *("Flow Bytes/s", "Idle Min"),
    )
    assert flows.statistics.tolist() == [[3, 2, 1, 0, 0], [30, 20, 10, 1500, 7]]
    assert not flows.sizes_bytes.any()
    place = setting("default", **done.settings, split="none")
    assert place.is_benign("BENIGN")
    assert not place.is_benign("Web Attack - XSS")


def test_labels_of_cic_ids2017_are_the_same_however_the_dash_was_written(tmp_path):
    row = "1-3,172.16.0.1,89,8.8.8.8,80,6,6/7/2017 9:15,30,20,10,1.5e3,4,4,7,Web Attack {} XSS"
    for name, dash in (("a", b"\x96"), ("b", b"\xe2\x80\x93"), ("c", b"\xef\xbf\xbd"), ("d", b"-")):
        (tmp_path / f"{name}.csv").write_bytes(f"{CIC}\n{row}\n".encode().replace(b"{}", dash))
    done = run("cic-ids2017", [tmp_path / f"{name}.csv" for name in "abcd"], tmp_path / "out")
    assert load_flows(done.out).label.tolist() == ["Web Attack - XSS"] * 4
    assert done.settings == {"flows": str(tmp_path / "out")}, "no class here is benign"


TOR = (
    "Source IP, Source Port, Destination IP, Destination Port, Protocol, Flow Duration,"
    " Flow IAT Mean,Fwd IAT Mean,Active Mean,Idle Min,label"
)


def test_flows_of_iscxtor2016_have_no_days(tmp_path):
    row = "10.0.2.15,57188,82.161.239.177,{},6,7248168,450,225,NaN,0,{}"
    file = cic(tmp_path / "tor.csv", row.format(110, "AUDIO"), row.format(80, "CHAT"), header=TOR)
    flows = load_flows(run("iscx-tor2016", [file], tmp_path / "out").out)
    assert flows.label.tolist() == ["AUDIO", "CHAT"]
    assert flows.server_port.tolist() == [110, 80]
    assert {*flows.day.tolist()} == {"unknown"}
    assert flows.statistics[0].tolist() == [7248168, 450, 225, 0, 0]


def unsw(**cells):
    usual = dict.fromkeys(COLUMNS, "1")
    usual |= {"srcip": "59.166.0.0", "proto": "udp", "state": "CON", "service": "dns"}
    usual |= {"Stime": "1421927414", "attack_cat": "", "Label": "0", "dsport": "53", "dur": "0.5"}
    return ",".join((usual | cells).values())


def test_unsw_nb15_is_read_by_its_published_columns(tmp_path):
    rows = [
        unsw(),
        unsw(Label="1", attack_cat=" Fuzzers ", proto="tcp", dsport="0x50"),
        unsw(Label="1", attack_cat="Backdoors", proto="arp", dsport="-", is_ftp_login=" "),
    ]
    (tmp_path / "UNSW-NB15_1.csv").write_text("﻿" + "\n".join(rows) + "\n", encoding="utf-8")
    done = run("unsw-nb15", [tmp_path / "UNSW-NB15_1.csv"], tmp_path / "out")
    flows = load_flows(done.out)
    assert flows.label.tolist() == ["Normal", "Fuzzers", "Backdoor"]
    assert flows.protocol.tolist() == [17, 6, 255]
    assert flows.server_port.tolist() == [53, 80, 0]
    assert {*flows.day.tolist()} == {"2015-01-22"}
    assert flows.statistic_names == tuple(STATISTICS)
    assert flows.statistics[2, STATISTICS.index("is_ftp_login")] == 0
    assert flows.statistics[0, STATISTICS.index("dur")] == 0.5
    assert done.settings["benign"] == "Normal"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cic-ids2017", "Destination Port,Label\n80,BENIGN\n", "MachineLearningCVE"),
        ("cic-ids2017", TOR + "\n", "without Label, Timestamp"),
        ("cic-ids2017", f"{CIC}\n1,a,2,b,80,6,2017-7-6,1,1,1,1,1,1,1,X\n", ":2: `Timestamp`"),
        ("cic-ids2017", f"{CIC}\n1,a,2,b,80,6,6/7/2017 1,1,1,1,1,1,1\n", ":2: the row must"),
        ("cic-ids2017", f"{CIC}\n1,a,2,b,80,6,6/7/2017 1,x,1,1,1,1,1,1,X\n", ":2: `Flow Dur"),
        ("iscx-tor2016", CIC + "\n", "a CSV of ISCXTor2016"),
        ("iscx-tor2016", TOR + "\n", "must hold flows, got none"),
        ("unsw-nb15", "id,dur,proto,service,state\n", ":1: the row must have 49 cells, got 5"),
        ("unsw-nb15", ",".join(COLUMNS) + "\n", ":1: the last of 49 columns must be 0 or 1"),
        ("unsw-nb15", unsw(dsport="99999") + "\n", ":1: `dsport` must be a port"),
        ("unsw-nb15", unsw(dur="soon") + "\n", ":1: `dur` must be a number"),
    ],
)  # fmt: skip
def test_a_csv_of_another_version_is_refused(tmp_path, name, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        run(name, [tmp_path / "x.csv"], tmp_path / "out")


def test_files_of_one_name_and_unknown_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="files of different names, got web, web"):
        run("pcap", [tmp_path / "web.pcap", tmp_path / "more" / "web.pcap"], tmp_path / "out")
    with pytest.raises(ValueError, match="cic-ids2017"):
        run("cic-ids2018", [tmp_path / "x.csv"], tmp_path / "out")


def test_statistics_alone_can_be_classified(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"1,h{k % 9},2,b,80,6,{1 + k % 5}/7/2017 1,{k},1,1,{rng.random()},1,1,1,{'AB'[k % 2]}"
        for k in range(120)
    ]
    done = run("cic-ids2017", [cic(tmp_path / "x.csv", *rows)], tmp_path / "out")
    for name in ("default", "unseen-hosts", "unseen-days"):
        place = setting(name, **done.settings | {"benign": "A"})
        assert place.classes == ("A", "B")
        assert all(len(place.episodes(part)) for part in ("train", "valid", "test"))
        assert place.of_part("test").observation()["statistics"].shape[1] == 5


def test_damaged_captures_and_files_are_flows_or_refused_by_name(tmp_path, survivors):
    file = capture(tmp_path / "web.pcap", TALK)
    newer = capture(tmp_path / "web.pcapng", TALK, writer=dpkt.pcapng.Writer)
    own = load_flows(run("pcap", [file], tmp_path / "out").out)
    write_flows(tmp_path / "own.csv", own)
    for one in (file, newer):
        for flows, _ in survivors(one, lambda one=one: pcap.flows(one), 150):
            assert (flows.sizes_bytes[:, 0] > 0).all()
    for flows in survivors(tmp_path / "own.csv", lambda: load_flows(tmp_path / "own.csv"), 150):
        assert (flows.sizes_bytes[:, 0] > 0).all()
