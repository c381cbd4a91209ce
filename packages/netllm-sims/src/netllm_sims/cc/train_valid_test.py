"""Training, validation and test parts of the settings, without a trace in two of them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from netllm_sims import own_data
from netllm_sims.abr import train_valid_test as streaming
from netllm_sims.abr.link import capacity_bytes, curve
from netllm_sims.abr.traces import Trace, load_traces
from netllm_sims.cc.capacity import KINDS, generate
from netllm_sims.cc.links import PACKET_BYTES, Link

if TYPE_CHECKING:
    from netllm_sims.cc.settings import Setting

PARTS = own_data.PARTS
COUNTS = {"train": 400, "valid": 60, "test": 100}
"""Links of each part unless a number is given."""
RECORDED = ("broadband", "mobile")
"""Kinds of capacity that are recorded traces of the data folder."""
_LEAST_LENGTH_S = 60.0
_LEAST_SHARE = 0.1

Range = tuple[float, float]


def links(setting: "Setting", part: str, count: int, seed: int) -> list[Link]:
    """Links of a part; those of `test` do not depend on the seed."""
    traces = {kind: recorded(setting, kind, part) for kind in setting.kinds if kind not in KINDS}
    stream = [0 if part == "test" else seed, PARTS.index(part)]
    return [
        _draw(setting, traces, np.random.default_rng([*stream, k]), f"{part}-s{stream[0]}-{k:06d}")
        for k in range(count)
    ]


def recorded(setting: "Setting", kind: str, part: str) -> Sequence[Trace]:
    """The recorded traces of a part: a person's own, or those of the data folder of a kind."""
    if setting.traces is not None:
        own = streaming.own(setting.traces, part, split=setting.split)
        return [session.trace for session in own]
    assert setting.data is not None, "settings without data have no recorded kinds"
    return _mobile(setting.data, part) if kind == "mobile" else _broadband(setting.data, part)


@cache
def _broadband(data: Path, part: str) -> tuple[Trace, ...]:
    """The traces of access lines among those of `netllm_sims.abr`'s setting `default`."""
    every = (session.trace for session in streaming.default(data, part))
    return tuple(trace for trace in every if "http" in trace.id)


@cache
def _mobile(data: Path, part: str) -> tuple[Trace, ...]:
    """The logs of moving phones in fcc-train, divided by content."""
    every = load_traces(data / "abr" / "traces" / "fcc-train")
    phones = {trace.digest: trace for trace in every if "http" not in trace.id}
    mine = own_data.by_content(phones)[part]
    return tuple(trace for digest, trace in sorted(phones.items()) if digest in mine)


def _draw(
    setting: "Setting", traces: dict[str, Sequence[Trace]], rng: np.random.Generator, id: str
) -> Link:
    """A random link; what it does not share with others is drawn first, its capacity last."""
    beyond = setting.beyond
    bandwidth_mbps = _drawn(rng, (setting.least_mbps, setting.most_mbps), beyond)
    rtt_ms = _drawn(rng, (setting.least_rtt_ms, setting.most_rtt_ms), beyond)
    share = _drawn(rng, (setting.least_buffer, setting.most_buffer), beyond)
    unlucky, loss = rng.random() < setting.lossy, rng.uniform(0.0, setting.most_loss)
    starts = rng.integers(0, max(setting.intervals // 4, 1), setting.competitors)
    kind = setting.kinds[int(rng.integers(len(setting.kinds)))]
    seed = int(rng.integers(2**31))
    length_s = setting.intervals * rtt_ms * 5e-4
    start_s, scale = 0.0, 1.0
    if kind in traces:
        trace = traces[kind][int(rng.integers(len(traces[kind])))]
        mean_mbps = curve(trace, packet_share=1.0)[-1, 1] * 8e-6 / trace.period_s
        scale = 1.0 if setting.traces is not None else bandwidth_mbps / mean_mbps
        bandwidth_mbps = mean_mbps * scale
        start_s = _start_s(trace, length_s, rng)
    else:
        long_s = max(_LEAST_LENGTH_S, length_s)
        trace = generate(kind, rng, mean_mbps=bandwidth_mbps, duration_s=long_s, id=f"{kind}-{id}")
    bdp_packets = bandwidth_mbps * 1e3 * rtt_ms / (8 * PACKET_BYTES)
    return Link(
        id=id,
        trace=trace,
        start_s=start_s,
        scale=scale,
        rtt_ms=rtt_ms,
        buffer_packets=max(share * bdp_packets, 2.0),
        loss=float(loss) if unlucky else 0.0,
        competitors=tuple(sorted(starts.tolist())),
        seed=seed,
    )


def _drawn(rng: np.random.Generator, within: Range, beyond: float) -> float:
    """A number whose logarithm is uniform in a range; or outside it, by at most a factor."""
    low, high = within
    if beyond > 1:
        low, high = (low / beyond, low) if rng.random() < 0.5 else (high, high * beyond)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _start_s(trace: Trace, length_s: float, rng: np.random.Generator) -> float:
    """A random start from which the trace carries at least a tenth of its mean; 0 if none does."""
    rows = curve(trace, packet_share=1.0)
    least = _LEAST_SHARE * rows[-1, 1] * length_s / trace.period_s
    for start_s in rng.uniform(0.0, trace.period_s, 16):
        begin, end = capacity_bytes(rows, np.array([start_s, start_s + length_s]))
        if end - begin >= least:
            return float(start_s)
    return 0.0
