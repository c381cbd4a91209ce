import numpy as np
import pytest
from netllm_sims.flows import NONE, metrics
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score, roc_auc_score

rng = np.random.default_rng(0)
TRUTH = rng.integers(0, 5, 400)
ANSWER = np.where(rng.random(400) < 0.7, TRUTH, rng.integers(-1, 6, 400))
CONFIDENCE = rng.random(400)


def test_f1_and_recall_are_those_of_scikit_learn():
    names = np.unique(TRUTH)
    expected = f1_score(TRUTH, ANSWER, labels=names, average=None)
    assert metrics.f1_by_class(TRUTH, ANSWER) == pytest.approx(expected)
    assert metrics.macro_f1(TRUTH, ANSWER) == pytest.approx(expected.mean())
    recall = recall_score(TRUTH, ANSWER, labels=names, average=None)
    assert metrics.recall_by_class(TRUTH, ANSWER) == pytest.approx(recall)
    among = np.where(np.isin(ANSWER, names), ANSWER, (TRUTH + 1) % 5)  # wrong too
    balanced = balanced_accuracy_score(TRUTH, among)
    assert metrics.mean_recall(TRUTH, ANSWER) == pytest.approx(balanced)


def test_flows_of_unknown_classes_count_against_what_they_are_answered_with():
    truth = np.append(TRUTH, [NONE] * 30)
    wrong, none = (np.append(ANSWER, np.full(30, given)) for given in (2, NONE))
    expected = f1_score(truth, wrong, labels=range(5), average="macro")
    assert metrics.macro_f1(truth, wrong) == pytest.approx(expected)
    assert metrics.macro_f1(truth, none) == metrics.macro_f1(TRUTH, ANSWER)
    assert metrics.macro_f1(truth, wrong) < metrics.macro_f1(truth, none)


def test_the_calibration_error_is_the_weighed_gap_of_scikit_learns_curve():
    right = rng.random(400) < CONFIDENCE**2
    shares, means = calibration_curve(right, CONFIDENCE, n_bins=metrics.BINS)
    counts = np.bincount(metrics.bins(CONFIDENCE), minlength=metrics.BINS)
    expected = (abs(shares - means) * counts[counts > 0]).sum() / 400
    assert metrics.calibration_error(right, CONFIDENCE) == pytest.approx(expected)
    assert metrics.calibration_error(np.ones(9, bool), np.ones(9)) == 0
    assert metrics.calibration_error(np.zeros(9, bool), np.full(9, 0.5)) == 0.5


def test_the_bins_of_confidence_hold_their_right_ends():
    ends = np.arange(metrics.BINS + 1) / metrics.BINS
    assert metrics.bins(ends).tolist() == [0, *range(metrics.BINS)]


def test_unknown_classes_are_told_apart_as_scikit_learn_has_it():
    unknown = rng.random(400) < 0.3
    coarse = np.round(CONFIDENCE - 0.3 * unknown, 1)  # so that some are equal
    expected = roc_auc_score(unknown, -coarse)
    assert metrics.auroc(unknown, coarse) == pytest.approx(expected)
    assert metrics.auroc(np.zeros(400, bool), CONFIDENCE) == 0.5


def test_false_alarms_are_counted_among_flows_that_are_no_attacks():
    benign = np.array([True] * 8 + [False] * 8)
    alarm = np.array([True, *[False] * 7, *[True] * 8])
    assert metrics.false_alarms_per_million(benign, alarm) == 125_000
    assert metrics.false_alarms_per_million(~np.ones(3, bool), np.ones(3, bool)) == 0


def test_there_must_be_a_known_class():
    with pytest.raises(ValueError, match="At least one flow must belong to a class"):
        metrics.macro_f1(np.array([NONE]), np.array([0]))
