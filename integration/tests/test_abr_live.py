"""Low-latency live streaming from end to end: table, pool, adapted model."""

import netllm as library
import numpy as np
import pytest
from netllm.abr.task import fields
from netllm_adapt import AdaptedModel

TINY = {"steps": 2, "batch": 2, "layers": 1, "dtype": "float32", "validate_every": 2, "rank": 2}
SHORT = {"chunks": 30}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "pool"
    policies = ["lol-plus", "random"]
    return library.rl_collect(
        "abr", policy=policies, relabel="lol-plus", setting="live", set=SHORT, episodes=4, out=path
    )


@pytest.fixture(scope="module")
def run(pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("live") / "run"
    library.adapt(
        "abr", pool=pool.path, setting="live", set=SHORT, backbone="tiny-random", out=out,
        validation=2, **TINY,
    )  # fmt: skip
    return out


def test_the_table_shows_latency_and_speed_only_where_it_is_live(netllm):
    command = ("test", "abr", "--policy", "l2a", "throughput", "--episodes", "5")
    code, live, _ = netllm(*command, "--setting", "live", "--set", "chunks=30")
    assert (code, "latency s" in live, "speed" in live) == (0, True, True)
    code, both, _ = netllm(*command, "--setting", "synthetic", "live", "--set", "chunks=30")
    assert code == 0
    assert both.count("latency s") == 1


def test_the_usual_rivals_are_those_that_can_live():
    report = library.test("abr", setting="live", set=SHORT, episodes=2)
    shown = {result.policy for result in report.results}
    assert shown >= {"throughput", "bola", "mpc", "l2a", "lol-plus"}
    assert not shown & {"ppo", "hindsight", "genet"}
    assert report.provenance["left_out"] == {}


def test_who_cannot_play_live_or_only_live_says_so(netllm):
    code, _, err = netllm("test", "abr", "--setting", "live", "--policy", "hindsight")
    assert (code, "no bound is known" in " ".join(err.split())) == (2, True)
    code, _, err = netllm("test", "abr", "--setting", "synthetic", "--policy", "lol-plus")
    assert (code, "Choose the setting `live`" in " ".join(err.split())) == (2, True)


def test_a_pool_keeps_the_latency_and_a_model_sees_it(pool, run):
    seen = pool[0].observations
    assert seen["live_latency_s"].shape == (29,)
    assert np.all(seen["speed"] > 0)
    assert "live_latency_s" in fields(6, live=True).keys() - fields(6).keys()
    model = AdaptedModel.from_pretrained(run / "best")
    assert "live_latency_s" in model.encoder.config()["fields"]
    report = library.test("abr", checkpoint=run, rivals="l2a", episodes=2)
    assert {result.setting for result in report.results} == {"live"}
    assert all(result.metrics["live_latency_s"].mean > 1 for result in report.results)


def test_a_live_model_elsewhere_names_the_field_that_is_missing(netllm, run):
    code, _, err = netllm("test", "abr", "--checkpoint", run, "--setting", "synthetic")
    assert code == 2
    assert "must hold the field 'live_latency_s'" in " ".join(err.split())


def test_a_live_observation_is_what_a_server_asks_for():
    from netllm import registry
    from netllm_sims.abr import Simulator, setting

    live = setting("live", chunks=30)
    shown = Simulator(live, live.sessions("test")[:1]).observation
    assert registry.task("abr").observation_fields(live).keys() == shown.keys()
