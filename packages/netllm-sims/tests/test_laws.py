"""Laws of the simulator, for any trace, start, level and number of the player."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.abr import Session, Simulator, Trace

CHUNKS = 20


@st.composite
def trace(draw):
    """A trace of steps from 0.1 to 20 s and 0 to 12 Mbit/s, with outages but not only these."""
    steps = draw(st.lists(st.integers(1, 200), min_size=1, max_size=40))
    bandwidth = [draw(st.integers(0, 1200)) for _ in steps]
    steps[-1], bandwidth[-1] = max(steps[-1], 10), max(bandwidth[-1], 50)
    time_s = np.concatenate([[0.0], np.cumsum(steps) / 10])
    return Trace("t", time_s, np.array([0.0, *bandwidth]) / 100)


@st.composite
def session(draw):
    path = draw(trace())
    pointer = draw(st.integers(1, len(path.time_s) - 1))
    scale = draw(st.sampled_from([1.0, 0.6, 1.6]))
    return Session("s", path, float(path.time_s[pointer - 1]), scale)


actions = st.lists(st.integers(0, 2), min_size=CHUNKS - 1, max_size=CHUNKS - 1)
knobs = st.fixed_dictionaries(
    {
        "latency_s": st.sampled_from([0.0, 0.7]),
        "rtt_s": st.sampled_from([0.08, 0.0]),
        "buffer_cap_s": st.sampled_from([60.0, 9.0]),
        "packet_share": st.sampled_from([0.95, 1.0]),
        "rebuffering": st.sampled_from([4.3, 1.0]),
    }
)


class ReferencePlayer:
    """The reference's player, transcribed from ORACLES.md (ABR), one session at a time.

    It walks from trace point to trace point as the published `env.py` does, so it shares nothing
    with the curve and the search that it checks.
    """

    def __init__(self, time_s, bandwidth_mbps, pointer, *, scale=1.0, setting):
        self.time_s, self.bandwidth = time_s, [scale * b for b in bandwidth_mbps]
        self.pointer, self.last = pointer, time_s[pointer - 1]
        self.setting, self.video = setting, setting.video
        self.buffer_s, self.level, self.chunk = 0.0, 0, 0

    def move_on(self):
        self.last = self.time_s[self.pointer]
        self.pointer += 1
        if self.pointer >= len(self.time_s):
            self.pointer, self.last = 1, 0.0

    def pause(self, seconds):
        while True:
            left = self.time_s[self.pointer] - self.last
            if left > seconds:
                self.last += seconds
                return
            seconds -= left
            self.move_on()

    def transfer(self, size):
        sent, seconds = 0.0, 0.0
        while True:
            rate = self.bandwidth[self.pointer] * 1e6 / 8
            duration = self.time_s[self.pointer] - self.last
            payload = rate * duration * self.setting.packet_share
            if sent + payload > size:
                part = (size - sent) / rate / self.setting.packet_share
                self.last += part
                return seconds + part
            sent += payload
            seconds += duration
            self.move_on()

    def download(self, level, *, latency_s=0.0, noise=1.0):
        setting, video = self.setting, self.video
        if latency_s:
            self.pause(latency_s)
        delay_s = self.transfer(video.sizes_bytes[self.chunk][level]) + setting.rtt_s
        delay_s *= noise
        gone_s = delay_s + latency_s
        stall_s = max(gone_s - self.buffer_s, 0.0)
        self.buffer_s = max(self.buffer_s - gone_s, 0.0) + video.chunk_s
        if self.buffer_s > setting.buffer_cap_s:
            steps = ceil((self.buffer_s - setting.buffer_cap_s) / setting.drain_s)
            self.buffer_s -= steps * setting.drain_s
            self.pause(steps * setting.drain_s)
        rate, before = video.rates_kbps[level] / 1000, video.rates_kbps[self.level] / 1000
        reward = rate - setting.rebuffering * stall_s - setting.smoothness * abs(rate - before)
        self.level, self.chunk = level, self.chunk + 1
        return {"reward": reward, "delay_s": delay_s, "stall_s": stall_s, "buffer_s": self.buffer_s}


@given(session(), actions, knobs)
def test_every_chunk_is_as_in_the_reference(small, play, one, levels, changes):
    config = replace(small, **changes)
    pointer = int(np.searchsorted(one.trace.time_s, one.start_s)) + 1
    player = ReferencePlayer(
        one.trace.time_s, one.trace.bandwidth_mbps, pointer, scale=one.scale, setting=config
    )
    seen = play(config, [one], levels)
    for chunk, level in enumerate([0, *levels]):
        wanted = player.download(level, latency_s=config.latency_s if chunk else 0.0)
        got = {name: seen[name][0, chunk] for name in ("reward", "stall_s", "buffer_s")}
        got["delay_s"] = seen["delay_s"][0, chunk, -1]
        assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def delivered(path, begin_s, end_s, share):
    """Bytes that a link delivers between two times, added up segment by segment."""
    total, at = 0.0, begin_s
    while at < end_s:
        lap, inside = divmod(at, path.period_s)
        segment = int(np.searchsorted(path.time_s[1:], inside, side="right")) + 1
        if segment == len(path.time_s):
            at = (lap + 1) * path.period_s
            continue
        until = min(lap * path.period_s + path.time_s[segment], end_s)
        if until <= at:  # rounding put us a hair before the edge
            until = min(np.nextafter(at, np.inf) + 1e-9, end_s)
        total += path.bandwidth_mbps[segment] * 125_000 * share * (until - at)
        at = until
    return total


@given(session(), actions)
def test_bytes_are_conserved(small, play, one, levels):
    config = replace(small, buffer_cap_s=1e9)
    seen = play(config, [one], levels)
    link_s = seen["delay_s"][0, :, -1] - config.rtt_s
    bytes_asked = sum(config.video.sizes_bytes[k][level] for k, level in enumerate([0, *levels]))
    end_s = one.start_s + link_s.sum()
    given_bytes = one.scale * delivered(one.trace, one.start_s, end_s, config.packet_share)
    assert given_bytes == pytest.approx(bytes_asked, rel=1e-6)


@given(session(), actions, knobs)
def test_time_never_runs_back_and_the_buffer_stays_in_bounds(small, one, levels, changes):
    config = replace(small, **changes)
    simulator = Simulator(config, [one], dtype=np.float64)
    simulator.reset()
    for level in levels:
        before_s = simulator.time_s[0]
        buffer_before_s = simulator.observation["buffer_s"][0]
        seen, _, _ = simulator.step(np.array([level]))
        link_s = seen["delay_s"][0, -1] - config.rtt_s
        assert link_s >= 0
        assert 0 <= simulator.time_s[0] < one.trace.period_s
        assert 0 < seen["buffer_s"][0] <= config.buffer_cap_s
        # playback and pauses take what the buffer lost, in whole drain steps
        full_s = max(buffer_before_s - seen["delay_s"][0, -1] - config.latency_s, 0) + 4
        paused_s = full_s - seen["buffer_s"][0]
        assert paused_s / config.drain_s == pytest.approx(
            round(paused_s / config.drain_s), abs=1e-6
        )
        moved_s = (simulator.time_s[0] - before_s) % one.trace.period_s
        wanted_s = (link_s + paused_s + config.latency_s) % one.trace.period_s
        gap_s = abs(moved_s - wanted_s)
        assert min(gap_s, one.trace.period_s - gap_s) < 1e-6


@given(st.lists(session(), min_size=2, max_size=5), actions, knobs)
def test_a_session_plays_the_same_alone_and_in_a_batch(small, play, sessions, levels, changes):
    config = replace(small, **changes)
    together = play(config, sessions, levels)
    for number, one in enumerate(sessions):
        alone = play(config, [one], levels)
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], together[name][number])


@given(session(), actions)
def test_float32_differs_by_rounding_only(small, play, one, levels):
    exact = play(small, [one], levels)
    for name, values in play(small, [one], levels, np.float32).items():
        assert values.dtype == (np.int64 if name == "level" else np.float32)
        np.testing.assert_allclose(values, exact[name], rtol=1e-5, atol=1e-5)


def test_a_fine_trace_is_searched_over_many_segments_and_periods(small, play):
    rng = np.random.default_rng(1)
    time_s = np.concatenate([[0.0], np.cumsum(rng.integers(1, 4, 3000) / 100)])
    one = Session("fine", Trace("t", time_s, rng.integers(0, 300, 3001) / 100), float(time_s[2500]))
    player = ReferencePlayer(time_s, one.trace.bandwidth_mbps, 2501, setting=small)
    levels = rng.integers(0, 3, CHUNKS - 1)
    seen = play(small, [one], levels)
    wanted = [player.download(level)["delay_s"] for level in (0, *levels)]
    assert sum(wanted) > 2 * one.trace.period_s
    assert seen["delay_s"][0, :, -1] == pytest.approx(wanted, rel=1e-9)
