"""Usual rivals that a setting cannot serve are left out aloud; named policies are not."""

import json

import netllm
import pytest
from netllm import registry

THREE_RATES = ("--set", "rates_kbps=400,1000,2500", "--set", "chunk_s=2", "--episodes", "2")
NO_DATA = "`genet` needs its published weights `abr/weights/genet.npz`, got no data folder."


def labels(results):
    return {result["policy"] for result in results}


def test_without_data_the_others_are_tested_and_a_note_says_who_is_missing_and_why(netllm):
    code, out, _ = netllm("test", "abr", "--episodes", "2")
    assert code == 0
    assert f"Note: genet is left out of default: {NO_DATA}\n" in out
    assert "Note: default has seeded generators" in out
    assert all(name in out for name in ("bba", "mpc", "ppo", "hindsight (bound, knows the future)"))
    assert "Set NETLLM_DATA" not in out


def test_the_document_says_by_setting_who_is_missing_and_why(netllm):
    code, out, _ = netllm("test", "abr", "--setting", "synthetic", "--episodes", "2", "--json")
    document = json.loads(out)
    assert code == 0
    assert labels(document["results"]) == {
        "bba",
        "bola",
        "panda",
        "mpc",
        "soda",
        "fugu",
        "comyco",
        "ppo",
        "ppo-wide",
        "hindsight",
    }
    assert document["provenance"]["left_out"] == {"synthetic": {"genet": NO_DATA}}


def test_a_ladder_of_three_rates_leaves_out_who_needs_six(netllm):
    code, out, _ = netllm("test", "abr", *THREE_RATES, "--json")
    document = json.loads(out)
    assert code == 0
    assert labels(document["results"]) == {
        *("bba", "bola", "panda", "mpc", "soda", "fugu", "hindsight")
    }
    reasons = document["provenance"]["left_out"]["default"]
    assert "Comyco's weights must fit the ladder" in reasons["comyco"]
    assert reasons["genet"] == "`genet` must choose among 6 rates, got a ladder of 3."
    assert "PPO's weights must fit the ladder: they choose among 6 rates" in reasons["ppo"]


def test_schedulers_without_their_weights_are_left_out_too(netllm):
    command = ("test", "cjs", "--set", "num_jobs=2", "--episodes", "1", "--json")
    code, out, _ = netllm(*command)
    document = json.loads(out)
    assert code == 0
    assert "decima" not in labels(document["results"])
    assert "got no data folder" in document["provenance"]["left_out"]["default"]["decima"]


def test_predictors_of_another_rate_are_left_out_too(netllm):
    code, out, _ = netllm("test", "vp", "--set", "rate_hz=10", "--episodes", "1", "--json")
    document = json.loads(out)
    assert code == 0
    assert labels(document["results"]) == {"hold-last", "velocity", "linear-regression"}
    left_out = document["provenance"]["left_out"]["default"]
    assert set(left_out) == {"gru", "gru-dense", "track", "vpt360"}


def test_rivals_that_read_a_crowd_or_a_memory_are_usual_only_where_one_is_shown():
    def usual(**shown):
        report = netllm.test("vp", setting=["synthetic"], set=shown, episodes=1)
        assert report.provenance["left_out"] == {}
        return {result.policy for result in report.results} & {"crowd-median", "gru-side"}

    assert usual() == set()
    assert usual(memory=10) == {"gru-side"}
    assert usual(crowd=4) == {"crowd-median", "gru-side"}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("abr", "--policy", "bba", "genet"), "Set NETLLM_DATA"),
        (("abr", "--policy", "ppo", *THREE_RATES), "Train your own"),
        (("cjs", "--policy", "decima"), "Set NETLLM_DATA"),
    ],
)
def test_a_policy_that_is_named_must_be_there(netllm, command, says):
    code, out, err = netllm("test", *command)
    assert code == 2
    assert out == ""
    assert says in " ".join(err.split())


def test_nobody_is_left_out_where_all_can_be_built():
    report = netllm.test("abr", rivals=["bba", "ppo"], setting="synthetic", episodes=2)
    assert [result.policy for result in report.results] == ["bba", "ppo"]
    assert report.provenance["left_out"] == {}
    assert not any("left out" in note for note in report.notes)


def test_a_rival_that_is_named_too_runs_once_and_must_be_there():
    report = netllm.test("abr", policy="bba", rivals=["bba"], setting="synthetic", episodes=2)
    assert [result.policy for result in report.results] == ["bba"]
    with pytest.raises(registry.Unbuildable, match="genet"):
        netllm.test("abr", policy="genet", rivals=["genet", "bba"], setting="synthetic")


def test_a_setting_without_any_policy_is_an_error():
    with pytest.raises(ValueError, match=r"'synthetic', but none can be built \(genet: `genet`"):
        netllm.test("abr", rivals="genet", setting="synthetic", episodes=2)


def test_a_misspelt_rival_or_one_that_cannot_act_stays_an_error():
    with pytest.raises(ValueError, match="Did you mean bba"):
        netllm.test("abr", rivals=["bbba", "bola"], setting="synthetic")
    with pytest.raises(ValueError, match="without act"):
        netllm.test("abr", rivals=["own_policies:stubborn", "bola"], setting="synthetic")


def test_what_fails_while_a_rival_decides_is_not_hidden():
    with pytest.raises(ValueError, match="no level for you"):
        netllm.test("abr", rivals=["bba", "own_policies:failing"], setting="synthetic")


def test_a_model_card_names_who_is_missing():
    report = netllm.test("abr", rivals=["bba", "genet"], setting="synthetic", episodes=2)
    assert f"- Note: genet is left out of synthetic: {NO_DATA}" in report.markdown()
