"""What is simulated beside real players is what `netllm test` finds."""

import pytest
from netllm import registry
from netllm.deciders.policy_spec import policy_specs
from netllm.real.simulated import simulated
from netllm.verbs.testing import measure_policies


@pytest.mark.parametrize("policy", ["bba", "mpc", "random"])
def test_one_rollout_gives_the_figures_of_test_and_every_chunk(policy):
    task = registry.task("abr")
    setting = task.setting("synthetic", chunks=6)
    episodes = measure_policies.Episodes("test", 20, ())
    plan = measure_policies.plan(task, policy_specs(task, [policy], [], ()), setting, episodes)
    (line,) = plan.lines
    outcomes, sessions = simulated(line)
    got = measure_policies.result(task, plan, line, outcomes)
    (expected,) = measure_policies.run(task, [plan], jobs=1)
    for mine, theirs in zip(got.episodes, expected.episodes, strict=True):
        assert mine.pop("cluster") == theirs.pop("cluster")
        assert mine == pytest.approx(theirs)
    assert sum(one.decisions for one in outcomes) == 20 * 5
    assert [*sessions] == [one.id for one in line.episodes]
    assert {len(chunks) for chunks in sessions.values()} == {6}
