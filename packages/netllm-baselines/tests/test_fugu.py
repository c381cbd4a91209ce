"""Fugu: its planning against enumeration, its chances against what happens."""

import numpy as np
import pytest
from netllm_baselines.abr import BBA, PPO, Fugu, Random
from netllm_baselines.abr.fugu_predictor import AHEAD, BINS, TIMES_S, WIDTH, bin_of, inputs
from netllm_baselines.perceptron import Perceptron
from netllm_sims.abr import rollout

QUALITY = np.array([0.4, 0.9, 2.0])
TIMES = np.array([1.0, 3.0, 9.0])
CHUNK_S, CAP_S, REBUFFERING, SMOOTHNESS = 4.0, 15.0, 1.3, 0.7


def expected(chances, buffer_s, last, first=None):
    """The best expectation from here on, trying every level and every time; by recursion."""
    if not len(chances):
        return 0.0
    totals = []
    for m in range(3) if first is None else [first]:
        total = QUALITY[m] - SMOOTHNESS * abs(QUALITY[m] - QUALITY[last])
        for chance, time_s in zip(chances[0, m], TIMES, strict=True):
            ahead_s = min(max(buffer_s - time_s, 0.0) + CHUNK_S, CAP_S)
            then = expected(chances[1:], ahead_s, m)
            total += chance * (then - REBUFFERING * max(time_s - buffer_s, 0.0))
        totals.append(total)
    return max(totals)


def test_value_iteration_finds_what_trying_everything_finds():
    from netllm_baselines.abr._value_iteration import best_levels

    rng = np.random.default_rng(0)
    terms = np.array([0.0, CHUNK_S, CAP_S, REBUFFERING, SMOOTHNESS])
    for _ in range(30):  # buffers in whole seconds, so that nothing is interpolated
        chances = rng.dirichlet(np.ones(3), (4, 3))
        horizon, last, buffer_s = rng.integers(1, 5), rng.integers(3), float(rng.integers(12))
        chosen = best_levels(
            chances[None],
            TIMES,
            np.array([buffer_s]),
            np.array([last]),
            np.array([horizon]),
            np.tile(QUALITY, (1, 6, 1)),
            terms,
        )[0]
        ahead = chances[:horizon]
        best = expected(ahead, buffer_s, last)
        assert expected(ahead, buffer_s, last, first=chosen) == pytest.approx(best, abs=1e-9)


def test_times_lie_in_their_intervals_and_the_middle_stands_for_all():
    assert bin_of(TIMES_S).tolist() == list(range(BINS))
    assert bin_of(np.array([0.01, 0.0999, 0.1, 59.9, 60.1])).tolist() == [0, 0, 1, 39, 40]


def test_what_the_predictor_sees_tells_size_and_distance(observe):
    seen = inputs(observe(measured_mbps=2.0), np.array([[[0.5, 1.0], [0.25, 0.75]]]))
    assert seen.shape == (1, 2, 2, WIDTH)
    np.testing.assert_allclose(np.exp(seen[0, :, :, 13]), [[0.5, 1.0], [0.25, 0.75]], rtol=1e-6)
    assert seen[0, 1, 0, 14:].tolist() == [0, 1, 0, 0, 0]
    np.testing.assert_allclose(np.exp(seen[0, 0, 0, :6]), 2.0, rtol=1e-6)


@pytest.fixture(scope="module", params=["synthetic", "real"])
def told(request):
    """Chances of the shipped predictor, and times, of downloads of test sessions."""
    pytest.importorskip("torch", reason="what trains Fugu collects the downloads")
    from netllm_baselines.abr.fugu_training import downloads

    place = request.getfixturevalue(request.param)
    sessions = place.sessions("test")[:60]
    seen, time_s = downloads(place, BBA(place), sessions, seed=0, epsilon=0.2)
    return Fugu(place).actor.probabilities(seen), time_s, seen


def test_its_chances_are_calibrated(told):
    chances, time_s, _ = told
    below = chances.cumsum(axis=1)[np.arange(len(time_s)), bin_of(time_s)]
    for share in (0.1, 0.5, 0.9):
        # within its interval a time lies anywhere, so that half of its chance counts
        own = chances[np.arange(len(time_s)), bin_of(time_s)]
        assert (below - own / 2 <= share).mean() == pytest.approx(share, abs=0.08)


def test_it_forecasts_better_than_the_harmonic_mean(told):
    # Figure 7 of the paper: better than a point estimate, and than throughput regardless of size.
    chances, time_s, seen = told
    median_s = TIMES_S[(chances.cumsum(axis=1) < 0.5).sum(axis=1)]
    slowness = np.exp(-seen[:, :6]).mean(axis=1)
    harmonic_s = 8 * np.exp(seen[:, 13]) * slowness
    error, usual = (np.abs(np.log(one / time_s)).mean() for one in (median_s, harmonic_s))
    assert error < usual
    spread = np.bincount(bin_of(time_s), minlength=BINS) / len(time_s)
    own = np.log(chances[np.arange(len(time_s)), bin_of(time_s)]).mean()
    assert own > np.log(spread[bin_of(time_s)]).mean() + 0.3


@pytest.mark.parametrize("place", ["synthetic", "real"])
def test_it_earns_more_than_the_buffer_alone(place, request):
    chosen = request.getfixturevalue(place)
    sessions = chosen.sessions("test")
    fugu, bba = (rollout(one(chosen), chosen, sessions).qoe.mean() for one in (Fugu, BBA))
    assert fugu > bba + 0.1


def test_weights_of_another_network_are_refused(synthetic, tmp_path):
    PPO(synthetic).actor.save(tmp_path / "ppo.npz")
    with pytest.raises(ValueError, match=r"ppo\.npz: Fugu's weights must give 41 chances"):
        Fugu(synthetic, weights=tmp_path / "ppo.npz")
    with pytest.raises(FileNotFoundError, match="train-baseline abr fugu"):
        Fugu(synthetic, weights=tmp_path / "gone.npz")


def test_a_short_training_beats_chance_and_repeats(synthetic, tmp_path):
    pytest.importorskip("torch", reason="Fugu is trained with the extra `learned`")
    from netllm_baselines.abr.fugu_training import train_fugu

    small = {"hidden": 24, "passes": 6, "validation_sessions": 6, "worlds_share": 0.0}
    files = [
        train_fugu("synthetic", out=tmp_path / name, steps=6_000, seed=2, command="mine", **small)
        for name in ("first.npz", "again.npz")
    ]
    first, again = (Perceptron.load(file, "fugu") for file in files)
    assert all((a == b).all() for a, b in zip(first.matrices, again.matrices, strict=True))
    assert first.meta["valid_error"] < np.log(BINS) - 1
    assert (first.meta["command"], first.meta["recipe"]["hidden"]) == ("mine", 24)
    chance = rollout(Random(synthetic), synthetic, synthetic.sessions("valid")).qoe.mean()
    assert first.meta["valid_qoe"] > chance + 1


def test_chances_sum_to_one_for_any_ladder():
    from netllm_sims.abr import setting

    own = setting("synthetic", rates_kbps=(500.0, 1111.0, 2345.5), chunk_s=2.0, chunks=20)
    run = rollout(BBA(own), own, own.sessions("test")[:2], record=True)
    chances = Fugu(own).chances({name: x[:, 3] for name, x in run.observations.items()})
    assert chances.shape == (2, AHEAD, 3, BINS)
    np.testing.assert_allclose(chances.sum(axis=-1), 1.0, rtol=1e-5)


def test_the_recursion_agrees_with_a_calculation_by_hand():
    # One chunk and one sure time: 2.0 - 0.7 * 1.6, for instance.
    sure = np.zeros((1, 3, 3))
    sure[..., 0] = 1.0
    found = {m: expected(sure, 5.0, 0, first=m) for m in range(3)}
    assert found == pytest.approx({0: 0.4, 1: 0.55, 2: 0.88})
