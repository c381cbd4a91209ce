"""The shaper, in a time of its own: what passes is what the trace's capacity curve says."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netllm.real.shaped_link import PACKET_BYTES, ShapedLink
from netllm_sims.abr import Session, Trace, capacity_bytes, curve


class Time:
    """A clock that sleeping moves on, by a little too much, as real ones do."""

    def __init__(self, late_s=0.0):
        self.now_s, self.late_s = 100.0, late_s

    def __call__(self):
        return self.now_s

    async def sleep(self, wait_s):
        self.now_s += wait_s + self.late_s


def passed(session, sizes_bytes, *, late_s=0.0, pause_s=0.0):
    """When and how much passed of downloads one after the other, in s since the beginning."""
    time = Time(late_s)
    link = ShapedLink(session, clock=time, sleep=time.sleep)
    found = []

    async def run():
        for size in sizes_bytes:
            start = time.now_s
            got = b""
            async for piece in link.pieces(bytes(size)):
                got += piece
                found.append((time.now_s - 100.0, len(piece)))
            assert len(got) == size
            assert time.now_s >= start
            time.now_s += pause_s

    asyncio.run(run())
    return np.array(found).reshape(-1, 2)


def due_bytes(rows, session, first_s, end_s):
    ends = capacity_bytes(rows, session.start_s + np.array([first_s, end_s]))
    return (ends[1] - ends[0]) * session.scale


@st.composite
def sessions(draw):
    rates = draw(st.lists(st.floats(0.3, 10.0), min_size=2, max_size=20))
    steps = draw(st.lists(st.floats(0.5, 4.0), min_size=len(rates), max_size=len(rates)))
    trace = Trace("t", np.append(0.0, np.cumsum(steps)), np.append(1.0, rates))
    start_s = draw(st.floats(0, 0.99)) * trace.period_s
    return Session("s", trace, start_s=start_s, scale=draw(st.floats(0.5, 2.0)))


@settings(max_examples=12, deadline=None)
@given(sessions(), st.floats(0, 0.002))
def test_over_any_five_seconds_the_capacity_of_the_trace_passes(session, late_s):
    rows = curve(session.trace)
    size = int(due_bytes(rows, session, 0.0, 15.0))
    found = passed(session, [size], late_s=late_s)
    for first_s in np.arange(0, found[-1, 0] - 5, 1.7):
        inside = found[(found[:, 0] > first_s) & (found[:, 0] <= first_s + 5), 1].sum()
        due = due_bytes(rows, session, first_s, first_s + 5)
        assert abs(inside - due) <= 0.02 * due + PACKET_BYTES
    assert due_bytes(rows, session, 0.0, found[-1, 0]) == pytest.approx(size, rel=0.02)


def test_nothing_passes_in_an_outage_and_its_time_is_waited_for():
    # by hand: 8 Mbit/s of which 95 % are payload, 0.95 MB in the first second, then 2 s of outage
    trace = Trace("gap", np.array([0.0, 1, 3, 4]), np.array([9.0, 8, 0, 8]))
    found = passed(Session("s", trace), [1_500_000])
    assert not found[(found[:, 0] > 1.001) & (found[:, 0] < 3)].size
    assert found[-1, 0] == pytest.approx(3 + 0.55 / 0.95, abs=0.001)


def test_capacity_that_nobody_used_is_lost():
    trace = Trace("flat", np.array([0.0, 1]), np.array([8.0, 8]))
    found = passed(Session("s", trace), [95_000, 95_000], pause_s=1.0)
    assert found[-1, 0] == pytest.approx(0.1 + 1.0 + 0.1, abs=0.001)


def test_downloads_at_the_same_time_share_the_link():
    trace = Trace("flat", np.array([0.0, 1]), np.array([80.0, 80]))
    ended = {}

    async def download(link, name, size):
        async for _ in link.pieces(bytes(size)):
            pass
        ended[name] = asyncio.get_running_loop().time()

    async def run():
        loop = asyncio.get_running_loop()
        link = ShapedLink(Session("s", trace), clock=loop.time)
        start = loop.time()
        await asyncio.gather(download(link, "a", 950_000), download(link, "b", 950_000))
        return {name: end - start for name, end in ended.items()}

    took_s = asyncio.run(run())
    assert min(took_s.values()) > 0.15
    assert max(took_s.values()) >= 0.2
