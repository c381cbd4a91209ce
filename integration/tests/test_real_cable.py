"""`--link tc`: what passes by the kernel's own count, and that nothing of it is left."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from netllm.real.cable import cable, check_programs
from netllm.real.kernel_link import follow
from netllm.real.shaped_link import session_curve
from netllm.real.token_bucket import FRAME_BYTES
from netllm_sims.abr import Session, Trace, capacity_bytes

PATIENCE_S = 60.0


def interfaces():
    return {name for _, name in socket.if_nameindex()}


@asynccontextmanager
async def full(made):
    """Connections through a cable that always have something to send."""

    ends = []

    async def send(reader, writer):
        ends.append(writer)
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()

    async def take(reader, writer):
        ends.append(writer)
        with suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass

    where = made.listener.getsockname()
    async with await asyncio.start_server(send, sock=made.listener):
        some = [await asyncio.open_connection(*where) for _ in range(8)]
        taking = [asyncio.create_task(take(*one)) for one in some]
        yield
        for writer in ends:
            writer.transport.abort()
        await asyncio.gather(*taking)


class Noted:
    """A cable, and when its rate changed."""

    def __init__(self, made):
        self._made, self.changes = made, []
        self.passed_bytes = made.passed_bytes

    async def set_rate(self, rate_bytes_s, bucket_bytes):
        passed = await self._made.set_rate(rate_bytes_s, bucket_bytes)
        self.changes.append((asyncio.get_running_loop().time(), rate_bytes_s))
        return passed


async def counted(session, long_s):
    """What had passed between two moments each, and when the rate changed, in trace time."""
    clock = asyncio.get_running_loop().time
    async with cable() as made, full(made):
        noted, counts = Noted(made), []
        zero_s = clock() - session.start_s
        following = asyncio.create_task(follow(noted, session))
        await asyncio.sleep(0.5)
        while clock() - zero_s - session.start_s < long_s:
            before_s = clock() - zero_s
            counts.append((await made.passed_bytes(), before_s, clock() - zero_s))
            await asyncio.sleep(0.2)
        following.cancel()
        await asyncio.wait([following])
    return counts, [(at_s - zero_s, rate) for at_s, rate in noted.changes]


def test_over_any_5_s_the_capacity_of_the_trace_passes_by_the_kernels_own_count(tc_link):
    # The reason for the allowance: on a busy machine a change comes late, and until then the rate
    # before it holds. How late they came is measured; on a quiet one it is some ms.
    rates = np.array([1.0, 0.3, 3, 1, 4, 0.5, 2])
    trace = Trace("steps", np.arange(7.0), rates)
    session = Session("s", trace, start_s=0.5)
    counts, changes = asyncio.run(counted(session, 8.0))
    rows = session_curve(session, packet_share=1.0)
    late = [
        (at_s, (at_s % 1) * abs(rate - before))
        for (_, before), (at_s, rate) in itertools.pairwise(changes)
    ]
    checked = 0
    for first, begin_s, began_s in counts:
        for last, end_s, ended_s in counts:
            if end_s - began_s < 5:
                continue
            least, most = (
                float(np.diff(capacity_bytes(rows, np.array(ends)))[0])
                for ends in ((began_s, end_s), (begin_s, ended_s))
            )
            allowed = 2 * FRAME_BYTES + sum(one for at_s, one in late if begin_s - 2 < at_s)
            assert 0.98 * least - allowed <= last - first <= 1.02 * most + allowed
            checked += 1
    assert checked


async def opened():
    """The name of a cable that was there."""
    async with cable() as made:
        assert made.name in interfaces()
        return made.name


def test_nothing_is_left_of_a_cable(tc_link):
    assert asyncio.run(opened()) not in interfaces()


HOLDS = """
import asyncio
import signal
from netllm.real.cable import cable

# Whoever started the tests may have them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def hold():
    async with cable() as made:
        print(made.name, flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_cable_if_its_process_is_told_to_end(tc_link, how):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as held:
        own = held.stdout.readline().decode().strip()
        assert own in interfaces()
        held.send_signal(how)
        held.wait(PATIENCE_S)
    ends = time.monotonic() + PATIENCE_S
    while own in interfaces():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The only programs there are, from name to script."""

    def run(**some):
        for name, script in some.items():
            (tmp_path / name).write_text(f"#!{os.path.realpath('/bin/sh')}\n{script}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return run


def test_programs_that_are_missing_are_named(programs):
    programs(ip="")
    with pytest.raises(FileNotFoundError, match="needs Linux and tc, unshare: apt-get install"):
        check_programs()


def test_a_namespace_that_is_not_allowed_is_told_with_what_helps(programs):
    programs(ip="", tc="", unshare="echo unshare failed: Operation not permitted >&2; exit 1")
    told = (
        r"not allowed here \(unshare failed: Operation not permitted\). Run it as root, or within"
    )
    with pytest.raises(PermissionError, match=told):
        asyncio.run(opened())
