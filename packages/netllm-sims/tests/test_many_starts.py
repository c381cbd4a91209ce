"""The larger test set: starts and what training heard of them."""

import numpy as np
from netllm_sims.abr import Session, Trace
from netllm_sims.abr.many_starts import many_starts, stretches


def trace(id: str, bandwidth_mbps: np.ndarray) -> Trace:
    return Trace(id, np.arange(len(bandwidth_mbps), dtype=float), bandwidth_mbps)


NOISE = np.random.default_rng(0).uniform(1, 2, 1_000)


def test_a_start_is_fresh_if_nothing_it_plays_was_learned_from():
    known = trace("known", np.append(0.0, NOISE[:40]))
    # 320 s of which the points from 100 s to 120 s were heard
    some = trace("some", np.concatenate([[0.0], NOISE[500:600], NOISE[10:30], NOISE[600:800]]))
    found = many_starts([Session("some", some, tags=("clean",))], [Session("known", known)])
    assert [one.start_s for one in found] == [20.0 * number for number in range(16)]
    fresh = {one.start_s for one in found if "fresh" in one.tags}
    # a session plays 240 s: it meets the heard ones unless it begins just after them
    assert fresh == {120.0, 140.0, 160.0, 180.0}
    assert all(one.tags[0] == "clean" for one in found)
    assert found[1].id == "some@20s"


def test_shorter_traces_have_fewer_starts_and_come_in_turn():
    short, long = (trace(name, np.append(0.0, NOISE[:n])) for name, n in (("s", 30), ("l", 50)))
    found = many_starts([Session("s", short), Session("l", long)], [Session("l", long)])
    assert [one.id for one in found] == ["s@0s", "l@0s", "s@20s", "l@20s", "l@40s"]
    assert not any(one.tags for one in found)


def test_a_stretch_that_hardly_changes_is_none():
    flat = np.repeat([1.0, 2.0, 3.0, 4.0], 10)
    assert stretches(trace("flat", flat)) == {}
    assert [*stretches(trace("noise", NOISE[:12])).values()] == [(0,), (1,)]
