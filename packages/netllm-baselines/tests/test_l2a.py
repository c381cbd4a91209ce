import numpy as np
import pytest
from netllm_baselines.abr import L2A
from netllm_sims.abr import Session, Trace, rollout
from scipy.optimize import linprog

LADDER_MBPS = np.array([0.3, 0.75, 1.2, 1.85, 2.85, 4.3])


def test_the_nearest_distribution_to_a_point():
    from netllm_baselines.abr.l2a import onto_simplex

    # (0.8, 0.6, -0.5): less 0.2 each is (0.6, 0.4, 0), by hand.
    points = np.array([[0.8, 0.6, -0.5], [0.2, 0.3, 0.5], [5.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert onto_simplex(points) == pytest.approx(
        np.array([[0.6, 0.4, 0], [0.2, 0.3, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    )


def test_a_step_goes_down_the_lagrangian_and_moves_the_multiplier():
    from netllm_baselines.abr.l2a import descend

    # Rates of 0.5 and 1.5 times the throughput, T = 4, so V = 2 and A = 4: gradients 2 * 0.5 + Q c
    # are 1.25 and 1.75 for Q = 0.5. From (0.5, 0.5), less an eighth of these: (0.34375, 0.28125),
    # projected (0.53125, 0.46875); g is 0.53125 * 0.5 + 0.46875 * 1.5 - 1 = -0.03125.
    weights, multiplier = descend(
        np.array([[0.5, 0.5]]), np.array([0.5]), np.array([[0.5, 1.5]]), horizon=4
    )
    assert weights[0] == pytest.approx([0.53125, 0.46875])
    assert multiplier[0] == pytest.approx(0.46875)


@pytest.mark.parametrize("link_mbps", [(0.5, 4.0), (0.9, 1.25)])
def test_regret_and_constraint_shrink_with_the_horizon(link_mbps):
    # The theorem of COLD and L2A, on random links: regret over T chunks is of order sqrt(T), so ten
    # times as many leave a third per chunk. On the second link the best distribution is a mixture
    # that the constraint holds, since 1.2 Mbit/s are nearest to the link, and too much.
    from netllm_baselines.abr.l2a import descend

    def per_chunk(horizon):
        costs = LADDER_MBPS / np.random.default_rng(0).uniform(*link_mbps, (horizon, 1))
        losses = abs(1 - costs)
        weights, multiplier, spent, excess = np.eye(6)[:1], np.zeros(1), 0.0, 0.0
        for cost, loss in zip(costs, losses, strict=True):
            spent += float(weights[0] @ loss)
            excess += float(weights[0] @ cost) - 1
            weights, multiplier = descend(weights, multiplier, cost[None], horizon)
        mean = {"A_ub": costs.sum(0)[None], "b_ub": [horizon]}
        best = linprog(losses.sum(0), **mean, A_eq=np.ones((1, 6)), b_eq=1)
        return (spent - best.fun) / horizon, excess / horizon

    regret, excess = np.array([per_chunk(horizon) for horizon in (100, 1000, 10000)]).T
    assert (regret[1:] > 0).all()
    assert (regret[1:] < 0.5 * regret[:-1]).all()
    assert excess.max() < 0.01


@pytest.mark.parametrize(("mbps", "level"), [(0.9, 1), (1.5, 2), (2.2, 3), (3.5, 4), (9.0, 5)])
def test_on_a_steady_link_it_settles_on_the_highest_rate_that_the_link_bears(live, mbps, level):
    # Chunks differ in size by some 10 %, so that a link just above a rate does not bear it.
    steady = Session("s", Trace("s", np.array([0.0, 100.0]), np.array([0.0, mbps / 0.95])))
    run = rollout(L2A(live), live, [steady])
    late = run.actions[0, 60:]
    assert np.mean(late == level) > 0.8
    assert late.max() == level
    assert run.rebuffer_s[0, 60:].max() == 0
    assert run.live_latency_s[0, 60:].mean() == pytest.approx(1.5, abs=0.1)


def test_the_faster_playback_is_the_less_a_link_bears(live, observe):
    # 2 Mbit/s for 1.5 times the speed are as 1.33 for 1.
    def settled(speed):
        policy = L2A(live)
        for chunk in range(60):
            seen = observe(measured_mbps=2.0) | {"speed": np.array([speed])}
            seen["throughput_mbps"][:, -2] = chunk > 0
            level = policy.act(seen)[0]
        return level

    assert (settled(1.0), settled(1.5)) == (3, 2)


def test_a_horizon_of_no_chunk_is_refused(live):
    with pytest.raises(ValueError, match="`horizon` must be at least 1"):
        L2A(live, horizon=0)
