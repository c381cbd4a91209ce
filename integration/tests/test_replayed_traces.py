"""The experiment with replayed traces tells the truth where it must."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from netllm import registry
from netllm_sims.abr import Trace, rollout, setting
from netllm_sims.abr.sessions import Session

ROOT = Path(__file__).parents[2]


@pytest.fixture
def replayed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("replayed_traces")


def test_whoever_recorded_plays_on_it_as_it_did_and_others_are_misjudged(replayed):
    found = replayed.measure(("panda", "bba"), 6)["policies"]
    assert found["panda"]["panda"]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["bba"]["bba"]["mean"] == pytest.approx(0, abs=1e-6)
    # small chunks spend most of their time on their start: a careful player's log looks slow
    assert found["bba"]["panda"]["mean"] < -1


def test_a_small_chunk_records_less_throughput_than_a_large_one_on_the_same_link(replayed):
    place = setting("4g-5g", rtt_s=0.4)
    steady = Session("a", Trace("a", np.array([0.0, 600.0]), np.array([20.0, 20.0])))
    told = {}
    for name in ("panda", "bba"):
        run = rollout(registry.policy("abr", name, place), place, [steady], record=True)
        (log,) = replayed.recorded(run, place)
        # payload of 19 Mbit/s, bytes over that and 0.4 s: size 8 / (size 8 / 19 + 0.4)
        level = np.array([0, *run.actions[0]])
        size_mb = place.video.sizes_bytes[np.arange(len(level)), level] * 8e-6
        wanted = size_mb / (size_mb / 19 + 0.4)
        assert log.trace.bandwidth_mbps[1:] == pytest.approx(wanted)
        told[name] = float(wanted.mean())
    assert told["panda"] < told["bba"] < 19
