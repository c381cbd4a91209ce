import numpy as np
import pytest
from netllm.report.intervals import Sample, by_episode, cluster_counts, differences, mean_of
from scipy import stats


def estimate(*sample):
    return Sample(*sample).estimate()


def test_the_interval_of_many_normal_values_is_the_textbook_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 2_000)
    found = estimate(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))  # central limit theorem
    assert found.mean == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx((found.mean - half, found.mean + half), abs=0.1 * half)


def test_the_same_values_give_the_same_digits():
    values = np.random.default_rng(2).random(30)
    assert estimate(values) == estimate(values)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_than_five_values_have_no_interval(count):
    assert estimate(np.arange(count, dtype=float)).ci95 is None
    assert estimate(np.arange(5, dtype=float)).ci95 is not None


def test_equal_values_have_an_interval_without_width():
    assert estimate(np.full(5, 0.25)).ci95 == (0.25, 0.25)


def test_values_that_differ_by_rounding_only_are_equal():
    values = np.array([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3])
    assert estimate(values).ci95 == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize(
    "values",
    [[0, 0, 0, 0, 1], [0] * 18 + [1, 1], [0] * 99 + [0.01], [0.5] * 19 + [0.6], [1e-300] * 9],
)
def test_ties_have_a_finite_interval_no_narrower_than_students(values):
    found = estimate(np.array(values, dtype=float))
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    slack = 1e-12 * max(values)
    assert found.mean - 10 * half - slack <= found.ci95[0] <= found.mean - half + slack
    assert found.mean + half - slack <= found.ci95[1] <= found.mean + 10 * half + slack


def test_values_of_one_cluster_are_one_observation():
    means = np.random.default_rng(3).normal(size=8)
    clusters = {"trace": [f"t{number // 6}" for number in range(48)]}
    together = estimate(np.repeat(means, 6), None, clusters)
    assert together.ci95 == pytest.approx(estimate(means).ci95)
    apart = estimate(np.repeat(means, 6))
    assert np.diff(together.ci95) > 2 * np.diff(apart.ci95)


def test_fewer_than_five_clusters_have_no_interval():
    values = np.random.default_rng(4).normal(size=40)
    assert estimate(values, None, {"video": ["a", "b", "c", "d"] * 10}).ci95 is None
    crossed = {"viewer": [str(number) for number in range(40)], "video": ["a", "b"] * 20}
    assert estimate(values, None, crossed).ci95 is None


def test_a_weight_counts_like_so_many_equal_values_of_one_cluster():
    rng = np.random.default_rng(5)
    values, weights = rng.normal(size=12), rng.integers(1, 9, size=12)
    names = [f"e{number:02}" for number in range(12)]
    weighed = estimate(values, weights.astype(float))
    repeated = estimate(np.repeat(values, weights), None, {"e": list(np.repeat(names, weights))})
    assert repeated.mean == pytest.approx(weighed.mean)
    assert repeated.ci95 == pytest.approx(weighed.ci95)


def test_rows_name_their_cluster_by_kind_or_by_a_string_or_not_at_all():
    rows = [{"id": str(i), "qoe": float(i)} for i in range(10)]
    assert cluster_counts(rows) == {"episode": 10}
    named = [{**row, "cluster": {"trace": str(i % 5)}} for i, row in enumerate(rows)]
    assert cluster_counts(named) == {"trace": 5}
    assert cluster_counts([{**row, "cluster": "one"} for row in rows]) == {"cluster": 1}
    assert mean_of(named, "qoe").ci95 != mean_of(rows, "qoe").ci95


def test_an_episode_counts_once_however_many_seeds_it_had():
    rows = [{"id": "a", "qoe": 1.0}, {"id": "a", "qoe": 3.0}, {"id": "b", "qoe": 6.0}]
    assert by_episode(rows, "qoe") == {"a": 2.0, "b": 6.0}
    assert mean_of(rows, "qoe").mean == 4.0


def test_a_difference_is_paired_by_episode():
    ours = [{"id": str(i), "qoe": i + 0.5} for i in range(10)]
    theirs = [{"id": str(i), "qoe": float(i)} for i in reversed(range(10))]
    # Unpaired, the spread of 0 … 9 would hide the constant gain.
    assert differences(ours, theirs, "qoe").estimate().ci95 == (0.5, 0.5)


@pytest.mark.parametrize("others", [["b"], ["a", "b"]])
def test_a_difference_needs_the_same_episodes(others):
    rows = [{"id": name, "qoe": 1.0} for name in others]
    with pytest.raises(ValueError, match=r"same episodes on both sides.*'[ab]'"):
        differences([{"id": "a", "qoe": 1.0}], rows, "qoe")
