"""The compiled rules say the same of an observed cluster as of the simulated one."""

import pytest
from netllm_baselines.cjs import SRW, CriticalPath, Fair, TrueFIFO, TunedShare
from netllm_sims import cjs
from netllm_sims.cjs.observed import observed

RULES = (TunedShare, Fair, SRW, CriticalPath, TrueFIFO)


@pytest.mark.parametrize("driver", [TunedShare, TrueFIFO])
def test_rules_need_no_more_than_what_is_seen(driver):
    place = cjs.setting("synthetic", num_jobs=10, num_executors=9)
    rules = [rule(place) for rule in RULES]
    simulator = cjs.Simulator(place, place.episodes("test", episodes=1)[0])
    decisions = 0
    while not simulator.done:
        seen = observed(simulator.observe())[0]
        for rule in rules:
            assert seen.ask(rule) == simulator.ask(rule), type(rule).__name__
        chosen = simulator.ask(driver(place))
        decisions += 1
        simulator.step(*chosen)
    assert decisions > 80
