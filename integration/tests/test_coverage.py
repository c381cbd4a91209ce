"""How often an interval misses the true mean, by simulation: the verdicts that would be false."""

import numpy as np
import pytest
from netllm.report.clustered_bootstrap import limits

SIMULATIONS = 1_000
AT_ONCE = 250


def normal(rng, size):
    return rng.normal(size=size)


def heavy_tailed(rng, size):
    return rng.standard_t(3, size=size)


def difference_of_lognormals(rng, size):
    return rng.lognormal(size=size) - rng.lognormal(size=size)


def lognormal(rng, size):
    return rng.lognormal(size=size) - np.exp(0.5)


def skewed_and_heavy_tailed(rng, size):
    values = rng.standard_t(3, size=size)
    mean = 1.5 * np.sqrt(3) / np.pi  # of 2 x above zero and x / 2 below: E |t| = 2 √3 / π
    return np.where(values > 0, 2 * values, values / 2) - mean


def missed(values, ways, weights=None):
    """The share of samples whose interval does not hold the true mean, 0."""
    weights = np.ones(values.shape[-1]) if weights is None else weights
    pieces = [values[first : first + AT_ONCE] for first in range(0, len(values), AT_ONCE)]
    low, high = np.concatenate([limits(piece, weights, ways) for piece in pieces], axis=1)
    return np.mean((low > 0) | (high < 0))


@pytest.mark.parametrize("count", [5, 10, 20, 100])
@pytest.mark.parametrize(
    "draw", [normal, heavy_tailed, difference_of_lognormals, lognormal, skewed_and_heavy_tailed]
)
def test_few_verdicts_are_false_where_there_is_no_difference(draw, count):
    skewed = draw in (lognormal, skewed_and_heavy_tailed)
    values = draw(np.random.default_rng(7), (SIMULATIONS * (2 if skewed else 1), count))
    assert missed(values, [np.arange(count)]) < (0.08 if skewed else 0.06)


@pytest.mark.parametrize("count", [5, 10, 20])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_few_verdicts_are_false_where_episodes_share_a_trace(share, count):
    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(count), rng.integers(1, 9, size=count))
    of_traces = rng.normal(size=(SIMULATIONS, count))[:, codes]
    values = share * of_traces + rng.normal(size=(SIMULATIONS, len(codes)))
    assert missed(values, [codes]) < 0.06
    if share:
        assert missed(values, [np.arange(len(codes))]) > 0.15  # were the traces not known


@pytest.mark.parametrize(("videos", "viewers"), [(5, 9), (6, 21)])
@pytest.mark.parametrize("effects", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_few_verdicts_are_false_where_viewers_and_videos_differ(videos, viewers, effects):
    rng = np.random.default_rng(9)
    video, viewer = np.divmod(np.arange(videos * viewers), viewers)
    values = (
        effects[0] * rng.normal(size=(SIMULATIONS, videos))[:, video]
        + effects[1] * rng.normal(size=(SIMULATIONS, viewers))[:, viewer]
        + rng.normal(size=(SIMULATIONS, videos * viewers))
    )
    windows = rng.integers(14, 93, size=videos).astype(float)[video]
    assert missed(values, [video, viewer], windows) < 0.06
    if all(effects):  # neither pairs nor one way alone would do
        assert missed(values, [np.arange(videos * viewers)], windows) > 0.15


def test_a_difference_that_is_there_is_seen():
    values = np.random.default_rng(10).normal(1.0, 1.0, size=(SIMULATIONS, 20))
    assert missed(values, [np.arange(20)]) > 0.95
