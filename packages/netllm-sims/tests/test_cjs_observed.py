"""A rule says the same of a cluster that is observed as of the one that is simulated."""

import numpy as np
import pytest
from netllm_sims import cjs
from netllm_sims.cjs.observed import observed

SMALL = {"num_jobs": 8, "num_executors": 7}


def clusters(count):
    place = cjs.setting("synthetic", **SMALL)
    return [cjs.Simulator(place, episode) for episode in place.episodes("test", episodes=count)]


@pytest.mark.parametrize("rule", [cjs.fair(), cjs.fifo()], ids=["fair", "fifo"])
def test_rules_choose_for_an_observed_cluster_what_they_choose_for_its_simulator(rule):
    decisions = 0
    running = dict(enumerate(clusters(3)))
    while running:
        numbers = [*running]
        seen = observed(cjs.observe([running[k] for k in numbers], numbers))
        assert [*seen] == numbers
        for k in numbers:
            wanted = running[k].ask(rule)
            assert seen[k].ask(rule) == wanted
            running[k].step(*wanted)
            decisions += 1
        running = {k: one for k, one in running.items() if not one.done}
    assert decisions > 200


def one():
    simulator = clusters(1)[0]
    for _ in range(10):
        simulator.step(*simulator.ask(cjs.fair()))
    return simulator.observe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_job": lambda rows: rows[::-1].copy()}, "must name the jobs in their order"),
        ({"stage_job": lambda rows: np.zeros_like(rows)}, "each at least once"),
        ({"edges": lambda rows: np.concatenate([rows, rows[:, ::-1]])}, "run in a circle"),
        ({"edges": lambda rows: np.array([[0, 10_000]])}, "rows of stages"),
    ],
)
def test_what_is_no_cluster_is_refused(changes, message):
    seen = one()
    assert len(np.unique(seen["stage_job"])) > 1
    for name, change in changes.items():
        seen[name] = change(seen[name])
    seen["edge_ptr"] = np.array([0, len(seen["edges"])])
    with pytest.raises(ValueError, match=message):
        observed(seen)


def test_edges_between_two_jobs_are_refused():
    seen = one()
    seen["edges"] = np.array([[0, len(seen["stages"]) - 1]])
    seen["edge_ptr"] = np.array([0, 1])
    with pytest.raises(ValueError, match="stages of one job"):
        observed(seen)
