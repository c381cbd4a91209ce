"""Laws of the congestion simulator, for random links and actions, and a model in plain Python."""

from collections import deque

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from netllm_sims.abr import Trace
from netllm_sims.cc import FACTORS, UNLIMITED, Link, Simulator, utility
from netllm_sims.cc.compiled_cubic import cubic, fresh
from netllm_sims.cc.links import PACKET_BYTES
from netllm_sims.cc.simulator_arrays import (
    ADMITTED,
    ARRIVED,
    CAPACITY,
    ROUND_TRIP,
    SERVED,
    TICKS,
)

INTERVALS = 24
STEADY = Trace("steady", np.array([0.0, 1.0]), np.array([8.0, 8.0]))


@st.composite
def links(draw, competitors=2):
    """A link whose capacity changes a few times, outages included."""
    rates = draw(st.lists(st.sampled_from([0.0, 0.5, 3.0, 12.0, 40.0]), min_size=1, max_size=5))
    time_s = np.cumsum([0.0, *draw(st.tuples(*[st.floats(0.02, 1.0)] * len(rates)))])
    bandwidth = np.array([1.0, *rates])
    bandwidth[1] = max(bandwidth[1], 1.0)
    starts = draw(st.lists(st.integers(0, INTERVALS), max_size=competitors))
    return Link(
        id="link",
        trace=Trace("t", time_s, bandwidth),
        rtt_ms=draw(st.floats(10.0, 300.0)),
        buffer_packets=draw(st.floats(2.0, 500.0)),
        loss=draw(st.sampled_from([0.0, 0.0, 0.01, 0.2])),
        competitors=tuple(starts),
        seed=draw(st.integers(0, 9)),
    )


rates = st.tuples(
    # no whole packets, which would be lost a step earlier or later as rounding has it
    st.sampled_from([0.1007, 1.0013, 5.003, 20.017, 100.03]),
    st.sampled_from([1.03, 30.07, 400.3, UNLIMITED]),
)
factors = st.integers(0, len(FACTORS) - 1)
actions = st.one_of(
    st.lists(rates, min_size=INTERVALS, max_size=INTERVALS),
    st.lists(factors, min_size=INTERVALS, max_size=INTERVALS),
)


def play(link, chosen, dtype=np.float64):
    """The simulator after the actions, and everything seen after each of them."""
    simulator = Simulator([link], len(chosen), dtype=dtype)
    simulator.reset()
    seen = []
    for action in chosen:
        observation, _, _ = simulator.step(np.array([action]))
        one = {name: value[0].copy() for name, value in observation.items()}
        seen.append(one | {"lost_mbps": simulator.lost_mbps[0]})
    return simulator, seen


@given(links(), actions)
@settings(max_examples=60)
def test_the_queue_stays_within_the_buffer_and_the_link_within_its_capacity(link, chosen):
    simulator, _ = play(link, chosen)
    history = simulator.history(0)
    assert (np.diff(history, axis=0) >= -1e-6).all(), "nothing runs back"
    carried, could = np.diff(history[:, SERVED]), np.diff(history[:, CAPACITY])
    assert (carried <= could + 1e-4).all()
    waiting = history[:, ADMITTED::2].sum(axis=1) - history[:, SERVED]
    assert waiting.min() >= -1e-4
    assert waiting.max() <= link.buffer_packets * PACKET_BYTES + 1e-3
    assert (history[:, ARRIVED] <= np.arange(len(history))).all()


@given(links(), actions)
@settings(max_examples=60)
def test_bytes_are_conserved(link, chosen):
    simulator, seen = play(link, chosen)
    to_bytes = link.interval_s * 1.25e5
    acked, lost, sent = (
        sum(np.ravel(one[name])[-1] for one in seen) * to_bytes
        for name in ("throughput_mbps", "lost_mbps", "sent_mbps")
    )
    flying = seen[-1]["inflight_packets"] * PACKET_BYTES
    assert acked + lost + flying == pytest.approx(sent, rel=1e-6, abs=2 * INTERVALS)
    history = simulator.history(0)
    delivered = simulator.delivered_bytes(simulator.interval)[0]
    assert delivered.sum() == pytest.approx(history[-1, SERVED], rel=1e-6, abs=1.0)


@given(links(competitors=0), st.lists(rates, min_size=INTERVALS, max_size=INTERVALS))
@settings(max_examples=60)
def test_littles_law_holds(link, chosen):
    # what waits in the mean is what passes times how long it waits; the end drains the queue
    still = [(0.01, 1.0)] * 400
    simulator, seen = play(link, [*chosen, *still])
    history = simulator.history(0)
    waiting = history[:, ADMITTED] - history[:, SERVED]
    tick_s = link.interval_s / TICKS
    area = ((waiting[1:] + waiting[:-1]) / 2).sum() * tick_s
    passed = np.array([one["throughput_mbps"][-1] for one in seen]) * link.interval_s * 1.25e5
    waited_s = np.array([one["rtt_ms"][-1] - link.rtt_ms for one in seen]) * 1e-3
    assume(waiting[-2 * ROUND_TRIP :].max() < 1.0)
    assert (passed * waited_s).sum() == pytest.approx(area, rel=1e-4, abs=5.0)


class ReferenceLink:
    """The same link as parcels in a queue, one per step, in plain Python."""

    def __init__(self, link: Link, intervals: int) -> None:
        self.link, self.flows = link, 1 + len(link.competitors)
        self.tick_s = link.interval_s / TICKS
        ends_s = np.arange(intervals * TICKS + 1) * self.tick_s
        self.could = np.diff([self.carried(end_s) for end_s in ends_s])
        self.parcels: deque[list] = deque()  # when it began to come, share left, sent, admitted
        self.known = [(np.zeros(self.flows),) * 3]  # sent, admitted, waited by what has left
        self.oldest = [0.0]
        self.sent = np.zeros(self.flows)
        self.flies = [self.chance(flow) for flow in range(self.flows)]
        self.until = [next(flight) for flight in self.flies]
        self.owed = [0.0] * self.flows

    def carried(self, end_s: float) -> float:
        """Bytes that the trace carries until then, added up segment by segment."""
        trace, done, begin_s = self.link.trace, 0.0, 0.0
        while True:
            for mbps, until_s in zip(trace.bandwidth_mbps[1:], trace.time_s[1:], strict=True):
                lap_s = begin_s + until_s
                before_s = begin_s + trace.time_s[list(trace.time_s).index(until_s) - 1]
                done += mbps * 1.25e5 * max(min(lap_s, end_s) - before_s, 0.0)
                if lap_s >= end_s:
                    return done
            begin_s += trace.period_s

    def chance(self, flow: int):
        if self.link.loss == 0:
            yield np.inf
        drawn = np.random.default_rng(self.link.seed).geometric(self.link.loss, (self.flows, 64))[
            flow
        ]
        yield (drawn[-1] - 0.5) * PACKET_BYTES
        while True:
            yield from drawn * PACKET_BYTES

    def tick(self, k: int, controls) -> None:
        known = self.known[max(k + 1 - ROUND_TRIP, 0)][0]
        new, reaching = np.zeros(self.flows), np.zeros(self.flows)
        begins = [0, *(start * TICKS for start in self.link.competitors)]
        for flow, (rate, window) in enumerate(controls):
            if k >= begins[flow]:
                free = max(window - (self.sent[flow] - known[flow]), 0.0)
                new[flow] = min(rate * self.tick_s, free)
            self.until[flow] -= new[flow]
            while self.until[flow] < 0:
                self.owed[flow] += PACKET_BYTES
                self.until[flow] += next(self.flies[flow])
            lost = min(self.owed[flow], new[flow])
            self.owed[flow] -= lost
            reaching[flow] = new[flow] - lost
        self.sent += new
        waiting = sum(rest * admitted.sum() for _, rest, _, admitted in self.parcels)
        room = self.link.buffer_packets * PACKET_BYTES + self.could[k] - waiting
        if reaching.sum() > room:
            reaching *= room / reaching.sum()
        self.parcels.append([k, 1.0, new, reaching])
        self.leave(k)

    def leave(self, k: int) -> None:
        """Serve the parcels in front; what has left is known a round trip later."""
        sent, admitted, waited = (one.copy() for one in self.known[-1])
        left = self.could[k]
        while self.parcels:
            begun, rest, new, reaching = self.parcels[0]
            size = rest * reaching.sum()
            share = rest if size < left + 1e-5 else rest * left / size
            came = begun + 1 - rest + share / 2
            sent, admitted = sent + share * new, admitted + share * reaching
            waited = waited + share * reaching * (k + 0.5 - came)
            left -= min(size, left)
            self.parcels[0][1] -= share
            if share < rest:
                break
            self.parcels.popleft()
        self.known.append((sent, admitted, waited))
        self.oldest.append(self.parcels[0][0] + 1 - self.parcels[0][1] if self.parcels else k + 1)

    def measured(self, k: int, flow: int):
        """Bytes acknowledged and lost in the interval that ends at step k, and the RTT in s."""
        begin, end = max(k - TICKS - ROUND_TRIP, 0), max(k - ROUND_TRIP, 0)
        sent, acked, waited = (
            after[flow] - before[flow]
            for before, after in zip(self.known[begin], self.known[end], strict=True)
        )
        wait = max(waited, 0) / acked if acked >= 1 else end - self.oldest[end]
        lost = sent - acked
        return acked, lost if lost >= 1 else 0.0, (ROUND_TRIP + wait) * self.tick_s


@given(links(), st.lists(rates, min_size=INTERVALS, max_size=INTERVALS))
@example(
    Link(id="x", trace=STEADY, buffer_packets=20.0, loss=0.1, competitors=(2,)),
    [(20.017, UNLIMITED)] * INTERVALS,
)
@settings(max_examples=40)
def test_the_compiled_simulator_does_what_plain_python_does(link, chosen):
    _, seen = play(link, chosen)
    reference = ReferenceLink(link, INTERVALS)
    window = 10 * PACKET_BYTES
    controls = [[window / (link.rtt_ms * 1e-3), window] for _ in range(reference.flows)]
    states, begins = fresh(reference.flows), [0, *(s * TICKS for s in link.competitors)]
    capacity = reference.could.sum() / (INTERVALS * link.interval_s)
    for number, (rate, most) in enumerate(chosen):
        controls[0] = [rate * 1.25e5, most * PACKET_BYTES]
        end = (number + 1) * TICKS
        for k in range(number * TICKS, end):
            reference.tick(k, controls)
        acked, lost, rtt_s = reference.measured(end, 0)
        one, interval_s = seen[number], link.interval_s
        assert one["throughput_mbps"][-1] == pytest.approx(
            acked * 8e-6 / interval_s, rel=1e-6, abs=1e-6
        )
        assert one["rtt_ms"][-1] == pytest.approx(rtt_s * 1e3, rel=1e-6)
        assert one["lost_mbps"] == pytest.approx(lost * 8e-6 / interval_s, rel=1e-6, abs=1e-4)
        paid = (np.array([x]) for x in (acked / interval_s, lost / interval_s, rtt_s))
        bests = {"capacity": np.array([capacity]), "shortest": np.array([link.rtt_ms * 1e-3])}
        (worth,) = utility(*paid, **bests)
        assert one["reward"] == pytest.approx(worth, rel=1e-6, abs=1e-3)
        for flow in range(1, reference.flows):
            if end > begins[flow]:
                acked, lost, rtt_s = reference.measured(end, flow)
                packets = acked / PACKET_BYTES, lost / PACKET_BYTES
                controls[flow] = list(cubic(states[flow], *packets, rtt_s, interval_s))


@given(st.lists(links(), min_size=2, max_size=4), actions)
@settings(max_examples=30)
def test_a_link_plays_the_same_alone_and_in_a_batch(several, chosen):
    simulator = Simulator(several, INTERVALS, dtype=np.float64)
    simulator.reset()
    together = []
    for action in chosen:
        observation, _, _ = simulator.step(np.array([action] * len(several)))
        together.append({name: value.copy() for name, value in observation.items()})
    for number, link in enumerate(several):
        _, alone = play(link, chosen)
        for one, all_of_them in zip(alone, together, strict=True):
            for name, value in all_of_them.items():
                np.testing.assert_array_equal(one[name], value[number])


@given(links(), actions)
@settings(max_examples=30)
def test_float32_differs_by_rounding_only(link, chosen):
    _, exact = play(link, chosen)
    _, rounded = play(link, chosen, np.float32)
    if not isinstance(chosen[0], int):  # else the rate itself is rounded from step to step
        for one, other in zip(exact, rounded, strict=True):
            for name in ("throughput_mbps", "rtt_ms", "rate_mbps", "reward"):
                np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-5)
