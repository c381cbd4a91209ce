"""`netllm record flows`: real programs on loopback, and that nothing leaves it or is left of it."""

import json
import os
import signal
import subprocess
import sys
import time

import dpkt
import numpy as np
import psutil
import pytest
from netllm import cli
from netllm.flows.recording import namespace
from netllm.flows.recording.hosts import HOSTS, class_of, servers
from netllm.flows.recording.known_programs import PROGRAMS
from netllm.flows.recording.machine import found
from netllm.flows.recording.programs import dns
from netllm.flows.recording.record import record
from netllm_sims.flows import setting

SECONDS = 6
PATIENCE_S = 60
# What is started in the background of a shell ignores Ctrl-C, and so would what it starts.
COMMAND = """
import signal, sys
from netllm.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
LOOKS = """
import errno, json, socket, sys
from netllm.flows.recording import lines
lines.bring_up()
answers = {}
for address in sys.argv[1:]:
    with socket.socket() as tried:
        answers[address] = errno.errorcode[tried.connect_ex((address, 80))]
print(json.dumps([[name for _, name in socket.if_nameindex()], answers]))
"""

LIMITS = """
import json
from netllm.flows.recording import lines
lines.bring_up()
print(json.dumps(lines.limit()))
"""


@pytest.fixture(scope="module")
def namespaces():
    try:
        namespace.check()
    except (FileNotFoundError, PermissionError) as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def recording(namespaces, tmp_path_factory):
    return record(tmp_path_factory.mktemp("recording") / "mine", seconds=SECONDS)


def test_within_the_namespace_no_other_address_is_reachable(namespaces, tmp_path):
    # 192.0.2.0/24 and 198.51.100.0/24 are for documentation (RFC 5737), 10.0.0.0/8 is private.
    others = ["192.0.2.1", "198.51.100.1", "10.0.0.1"]
    command = [sys.executable, "-c", LOOKS, "127.0.0.1", *others]
    with namespace.within(command, tmp_path / "errors.txt") as output:
        said = output.read()
    devices, answers = json.loads(said or (tmp_path / "errors.txt").read_text())
    assert devices == ["lo"]
    assert answers == {"127.0.0.1": "ECONNREFUSED", **dict.fromkeys(others, "ENETUNREACH")}


def test_every_installed_program_is_recorded_with_its_class(recording):
    installed = [name for name, one in PROGRAMS.items() if all(map(found, one.needs))]
    assert [*recording.made] == installed
    assert sorted(one.name for one in recording.out.iterdir()) == sorted(
        f"{name}.csv" for name in installed
    )
    flows = setting("default", **recording.settings, split="none").of_part("test")
    assert {name: int((flows.label == name).sum()) for name in installed} == recording.made
    ports = {"web": 443, "video": 443, "bulk": 443, "ssh": 22, "dns": 53}
    for name in {*installed} - {"scan"}:
        of = flows[flows.label == name]
        assert {*of.server_port.tolist()} == {ports[name]}
        assert {*of.protocol.tolist()} == {17 if name == "dns" else 6}
        assert len({*of.host.tolist()}) > 3
    assert {*flows.host.tolist()} <= {host.address for host in HOSTS}
    assert len({*flows.server_port[flows.label == "scan"].tolist()}) > 20


def test_packets_are_recorded_once_and_as_they_were_sent(recording):
    flows = setting("default", **recording.settings, split="none").of_part("test")
    sizes = flows.sizes_bytes
    assert np.abs(sizes).max() <= 1500
    scans = sizes[flows.label == "scan"]
    # A closed port: one packet asks, one refuses; 20 bytes of IP and 20 of TCP, and 20 of options.
    closed = scans[(scans != 0).sum(axis=1) == 2][:, :2]
    assert len(closed) > 20
    assert {tuple(one) for one in closed.tolist()} == {(60.0, -40.0)}
    asked = sizes[flows.label == "dns"]
    assert (asked[:, 0] > 0).all()
    assert (asked < 0).any(axis=1).mean() > 0.5


def test_no_host_gets_more_than_its_line_lets_pass(recording, tmp_path):
    command = [sys.executable, "-c", LIMITS]
    with namespace.within(command, tmp_path / "errors.txt") as output:
        denied = json.loads(output.read())
    if any("rates" in one for one in denied):
        pytest.skip(f"not imitated: {denied}")
    flows = setting("default", **recording.settings, split="none", packets=100).of_part("test")
    rates = {host.address: host.rate_mbps for host in HOSTS}
    full = flows[(flows.sizes_bytes != 0).all(axis=1)]
    # The first packets may find the line empty: HTB lets a burst of 1,600 bytes pass at once.
    sizes_bytes = np.abs(full.sizes_bytes[:, 2:]).sum(axis=1)
    mbps = sizes_bytes * 8e-3 / full.gaps_ms[:, 2:].sum(axis=1)
    assert len(full)
    assert (mbps < 1.1 * np.array([rates[host] for host in full.host.tolist()])).all()


def test_hosts_of_a_recording_are_divided(recording):
    divided = setting("unseen-hosts", **recording.settings)
    hosts = [{*divided.of_part(part).host.tolist()} for part in ("train", "valid", "test")]
    assert len(hosts[1]) == len(hosts[2]) == len(set.union(*hosts)) // 5 > 1
    assert not hosts[0] & hosts[1] | hosts[0] & hosts[2] | hosts[1] & hosts[2]
    assert divided.is_benign("dns")
    assert not divided.is_benign("scan")


def test_rivals_learn_from_a_recording(recording, capsys):
    words = ["test", "flows", "--setting", "unseen-hosts", "--policy", "port", "nearest-neighbours"]
    sets = [f"{name}={value}" for name, value in recording.settings.items()]
    assert cli.main([*words, "--set", *sets, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    found_f1 = {one["policy"]: one["metrics"]["macro_f1"]["mean"] for one in rows}
    assert found_f1["port"] > 0
    assert found_f1["nearest-neighbours"] > 0.25  # of six classes the most frequent alone: 0.15


def test_the_command_says_how_to_use_what_it_wrote(namespaces, tmp_path, capsys):
    out = tmp_path / "mine"
    words = ["record", "flows", "--out", str(out), "--seconds", "3", "--only", "dns", "scan"]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert f"Use: netllm test flows --set flows={out} --set benign=dns\n" in told
    assert {one.name for one in out.iterdir()} == {"dns.csv", "scan.csv"}


def started(out):
    """A recording that is under way, and the processes that belong to it."""
    words = ["record", "flows", "--out", str(out), "--seconds", "600", "--only", "dns"]
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(out.parent)},
    )
    children = []
    until_s = time.monotonic() + PATIENCE_S
    while len(children) < 4:  # unshare, what it runs, servers, recorder
        assert time.monotonic() < until_s, running.stderr.read()
        assert running.poll() is None, running.stderr.read()
        children = psutil.Process(running.pid).children(recursive=True)
        time.sleep(0.1)
    return running, children


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_and_no_folder_is_left_of_a_recording_that_is_ended(namespaces, tmp_path, how):
    running, children = started(tmp_path / "mine")
    os.kill(running.pid, how)
    assert running.wait(PATIENCE_S) == (130 if how == signal.SIGINT else -how)
    running.stderr.close()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
    assert not (tmp_path / "mine").exists()
    if how == signal.SIGINT:
        assert not list(tmp_path.iterdir())


def test_a_program_that_fails_ends_the_recording(namespaces, tmp_path, monkeypatch):
    if not all(map(found, PROGRAMS["web"].needs)):
        pytest.skip("curl or openssl is not installed")
    broken = tmp_path / "bin" / "curl"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    with pytest.raises(
        RuntimeError, match=r"got exit code 7: it is broken\nwhile 127\.0\.0\..*web"
    ):
        record(tmp_path / "mine", seconds=600, only=["web"])
    assert [one.name for one in tmp_path.iterdir()] == ["bin"]


def test_a_missing_program_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    if found("curl") is not None:
        pytest.skip("curl is among the administrator's programs")
    with pytest.raises(FileNotFoundError, match=r"web cannot be recorded without .*curl"):
        record(tmp_path / "mine", seconds=3, only=["web"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("abr",), "Only flows can be recorded, got 'abr'"),
        (("flows", "--only", "wep"), "Did you mean web?"),
        (("flows", "--seconds", "1"), "`seconds` must lie in [3, 3600], got 1"),
    ],
)
def test_mistakes_are_told(words, message, tmp_path, capsys):
    assert cli.main(["record", *words, "--out", str(tmp_path / "mine")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_packets_belong_to_the_class_of_the_server_in_either_direction():
    host = bytes(map(int, HOSTS[3].address.split(".")))
    for name in PROGRAMS:
        for address in servers(name):
            server = bytes(map(int, address.split(".")))
            assert class_of(host, server) == class_of(server, host) == name
    assert class_of(host, host) is None
    assert class_of(bytes([127, 0, 0, 1]), server) is None  # no host
    assert class_of(host, bytes([127, 0, 99, 1])) is None  # no server
    assert class_of(host, bytes([10, 0, 1, 1])) is None


@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize(("kind", "length"), [(1, 4), (28, 16)])
def test_dns_messages_are_those_of_the_protocol(kind, length, edns):
    asked = dns.question(7, "www.example.test", kind, edns=edns)
    read = dpkt.dns.DNS(asked)
    assert (read.id, read.rd, read.qr) == (7, 1, dpkt.dns.DNS_Q)
    assert [(one.name, one.type) for one in read.qd] == [("www.example.test", kind)]
    answered = dpkt.dns.DNS(dns.answer(asked))
    assert (answered.id, answered.qr, answered.rcode) == (7, dpkt.dns.DNS_R, 0)
    for record_ in answered.an:
        assert (record_.name, record_.type, record_.rlen) == ("www.example.test", kind, length)
    assert len(read.ar) == len(answered.ar) == edns
