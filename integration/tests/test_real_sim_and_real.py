"""What is said of simulation and reality, of made-up results."""

import json

import pytest
from netllm.real.play_log import Chunk, Log
from netllm.real.sim_and_real import RealReport
from netllm.report.report import Report
from netllm.report.result import Result, summarise
from netllm.task import Metric

QOE = Metric("qoe", "QoE")
SPREAD = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def result(name, *values):
    rows = [{"id": f"e{n}", "seed": 0, "qoe": value} for n, value in enumerate(values)]
    return Result("abr", "default", name, None, summarise(rows, (QOE,)), rows, 2.0, 1.0)


def log(*decisions):
    """Of a play in which these decided, and took so many milliseconds."""
    chunks = [Chunk(n, 0, 9, 1.0, 0.0, 4.0, by, ms) for n, (by, ms) in enumerate(decisions)]
    return Log([*chunks, Chunk(len(chunks), 0, 9, 1.0, 0.0, 4.0)], over=True)


def report(simulated, real, logs=None):
    told = {one.label: {"e0": log(("model", 5.0))} for one in real}
    found = Report(real, [], {}, metrics=(QOE,))
    return RealReport(found, simulated, {**told, **(logs or {})}, {})


def test_the_gap_is_the_median_over_sessions_of_how_far_they_are_apart():
    found = report([result("bba", 1.0, 2.0, -4.0)], [result("bba", 1.1, 1.0, -4.0)])
    (gap,) = found.gaps()
    assert gap.relative == pytest.approx(0.1)  # of 0.1, 0.5 and 0
    assert gap.simulated == pytest.approx(-1 / 3)
    assert gap.real == pytest.approx(-1.9 / 3)


def test_a_session_that_earned_nothing_in_the_simulator_is_no_error():
    (gap,) = report([result("bba", 0.0, 1.0, 1.0)], [result("bba", 0.5, 1.0, 1.0)]).gaps()
    assert gap.relative == 0.0


def test_it_is_told_who_decided_and_how_long_players_waited():
    plays = {"a": log(("model", 10.0), ("bba", 30.0)), "b": log(("model", 20.0), ("page", 40.0))}
    (gap,) = report([result("run", 1.0)], [result("run", 1.0)], {"run": plays}).gaps()
    assert gap.decided_by == {"bba": 0.25, "itself": 0.5, "page": 0.25}
    assert gap.decision_ms["p50"] == pytest.approx(25.0)


def shifted(name, shift):
    return result(name, *(shift + share for share in SPREAD))


@pytest.mark.parametrize(("real", "same"), [(1.2, True), (0.8, False)])
def test_reality_agrees_if_the_same_one_is_ahead(real, same):
    simulated = [shifted("mpc", 2.0), shifted("bba", 1.0)]
    found = report(simulated, [shifted("mpc", real), shifted("bba", 1.0)])
    (pair,) = found.pairs()
    assert (pair.first, pair.second) == ("mpc", "bba")
    assert pair.simulated.mean == pytest.approx(1.0)
    assert pair.real.mean == pytest.approx(real - 1.0)
    assert pair.same_sign is same
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["pairs"][0]["same_sign"] is same


def test_nothing_is_said_of_pairs_that_the_simulator_does_not_tell_apart():
    level = [result("mpc", 0, 1, 0, 1, 0, 1), result("bba", 1, 0, 1, 0, 1, 0)]
    (pair,) = report(level, [shifted("mpc", 2.0), shifted("bba", 1.0)]).pairs()
    assert pair.same_sign is None
    few = [result("mpc", 2.0, 3.0), result("bba", 1.0, 2.0)]
    (pair,) = report(few, few).pairs()
    assert pair.same_sign is None


def test_the_tables_name_gaps_and_pairs(capsys):
    both = [shifted("mpc", 2.0), shifted("bba", 1.0)]
    report(both, both).show()
    shown = capsys.readouterr().out
    assert "simulation and reality" in shown
    assert "mpc − bba" in shown
    assert "itself 100.0%" in shown
