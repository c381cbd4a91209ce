import numpy as np
import pytest
from netllm.intervals import by_episode, difference, estimate, mean_of


def test_the_interval_of_many_normal_values_is_the_textbook_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 2_000)
    found = estimate(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))  # central limit theorem
    assert found.mean == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx((found.mean - half, found.mean + half), abs=0.1 * half)


def test_the_same_values_give_the_same_digits():
    values = np.random.default_rng(2).random(30)
    assert estimate(values) == estimate(values)


def test_one_value_has_no_interval():
    assert estimate(np.array([4.0])).ci95 is None


def test_equal_values_have_an_interval_without_width():
    assert estimate(np.full(5, 0.25)).ci95 == (0.25, 0.25)


def test_values_that_differ_by_rounding_only_are_equal():
    assert estimate(np.array([0.1 + 0.2, 0.3, 0.3])).ci95 == pytest.approx((0.3, 0.3))


def test_an_episode_counts_once_however_many_seeds_it_had():
    rows = [{"id": "a", "qoe": 1.0}, {"id": "a", "qoe": 3.0}, {"id": "b", "qoe": 6.0}]
    assert by_episode(rows, "qoe") == {"a": 2.0, "b": 6.0}
    assert mean_of(rows, "qoe").mean == 4.0


def test_a_difference_is_paired_by_episode():
    ours = [{"id": str(i), "qoe": i + 0.5} for i in range(10)]
    theirs = [{"id": str(i), "qoe": float(i)} for i in reversed(range(10))]
    # Unpaired, the spread of 0 … 9 would hide the constant gain.
    assert difference(ours, theirs, "qoe").ci95 == (0.5, 0.5)


def test_a_difference_needs_common_episodes():
    with pytest.raises(ValueError, match="common episodes"):
        difference([{"id": "a", "qoe": 1.0}], [{"id": "b", "qoe": 1.0}], "qoe")
