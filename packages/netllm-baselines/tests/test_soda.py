from itertools import product

import numpy as np
import pytest
from netllm_baselines.abr import MPC, Soda
from netllm_sims.abr import rollout

LADDER = np.array([0.3, 0.75, 1.2, 1.85, 2.85, 4.3])
DISTORTION = (4.3 - LADDER) / 4.0


def costs(plans, *, rate_mbps, buffer_s, level, buffering, switching):
    """Equation 1 of the paper of each plan: steps of 4 s, a target of 45 s and a cap of 60 s."""
    total, before, buffer_s = np.zeros(len(plans)), level, np.full(len(plans), buffer_s)
    for m in plans.T:
        buffer_s = np.minimum(buffer_s + 4 * rate_mbps / LADDER[m] - 4, 60)
        total[buffer_s < 0] = np.inf
        off = (1 - buffer_s / 45) ** 2 * np.where(buffer_s <= 45, 1, 0.1)
        change = (DISTORTION[m] - DISTORTION[before]) ** 2
        total += DISTORTION[m] * rate_mbps / LADDER[m] + buffering * off + switching * change
        before = m
    return total


def steer(where, *, horizon, buffering, switching):
    from netllm_baselines.abr._level_search import steer

    terms = np.array([4.0, 60.0, 45.0, buffering, switching, 0.1])
    one = [np.array([where[name]]) for name in ("rate_mbps", "buffer_s", "level")]
    return int(steer(*one, horizon, LADDER, DISTORTION, terms)[0])


def situations(count):
    """Throughput, buffer and last level, drawn uniformly as for the paper's figure 8."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        drawn = {"rate_mbps": rng.uniform(0.2, 6), "buffer_s": rng.uniform(0, 60)}
        yield drawn | {"level": int(rng.integers(6))}


def all_plans(horizon):
    return np.array(list(product(range(6), repeat=horizon)))


def test_the_search_finds_the_cheapest_plan_that_never_turns():
    weights = {"buffering": 3.0, "switching": 1.0}
    for where in situations(200):
        moves = np.diff(all_plans(3), axis=1, prepend=where["level"])
        plans = all_plans(3)[(moves >= 0).all(axis=1) | (moves <= 0).all(axis=1)]
        found = costs(plans, **where, **weights)
        chosen = steer(where, horizon=3, **weights)
        if np.isinf(found).all():
            assert chosen == 0
        else:
            assert found[plans[:, 0] == chosen].min() == pytest.approx(found.min(), abs=1e-8)


def test_the_more_changes_weigh_the_less_it_differs_from_a_search_over_all_plans():
    # Figure 8 of the paper: the share falls, to below 5 % for four steps.
    plans = all_plans(4)

    def share(**weights):
        best = [(w, plans[costs(plans, **w, **weights).argmin(), 0]) for w in situations(300)]
        return np.mean([steer(w, horizon=4, **weights) != level for w, level in best])

    shares = [share(buffering=3.0, switching=weight) for weight in (1.0, 8.0, 32.0)]
    assert shares[0] > shares[1] > shares[2]
    assert shares[0] < 0.25
    assert max(shares[1:]) < 0.06
    assert share(buffering=0.3, switching=2.0) < 0.05


def test_more_buffer_or_more_throughput_raises_the_level():
    # As figure 5 of the paper shows.
    weights = {"horizon": 5, "buffering": 3.0, "switching": 1.0}
    buffers_s, rates_mbps = np.arange(0.0, 60.0, 4.0), np.linspace(0.4, 5, 12)
    grid = [
        [steer({"rate_mbps": w, "buffer_s": x, "level": 3}, **weights) for x in buffers_s]
        for w in rates_mbps
    ]
    assert (np.diff(grid, axis=0) >= 0).all()
    assert (np.diff(grid, axis=1) >= 0).all()
    assert len(np.unique(grid)) == 6


def test_where_every_plan_runs_dry_the_lowest_level_is_taken(synthetic, observe):
    assert Soda(synthetic).act(observe(measured_mbps=0.05, buffer_s=0.5, level=4)).tolist() == [0]


@pytest.mark.parametrize("place", ["synthetic", "real"])
def test_it_changes_less_than_mpc_at_a_like_bitrate(place, request):
    # Section 6 of the paper: fewer switches at slightly less utility.
    chosen = request.getfixturevalue(place)
    soda, mpc = (rollout(policy(chosen), chosen, chosen.sessions("test")) for policy in (Soda, MPC))
    assert soda.bitrate_mbps.mean() > 0.9 * mpc.bitrate_mbps.mean()
    assert soda.smoothness_mbps.mean() < 0.7 * mpc.smoothness_mbps.mean()


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"horizon": 0}, {"switching": -1.0}])
def test_numbers_out_of_range_are_refused(synthetic, wrong):
    with pytest.raises(ValueError, match="must lie in"):
        Soda(synthetic, **wrong)
