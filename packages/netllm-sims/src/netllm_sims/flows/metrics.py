"""Measures of answers about flows. Numbers of classes begin at 0; `NONE`, -1, is none of them."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from netllm_sims.flows.limits import NONE

BINS = 15
"""Bins of confidence of the calibration error, as in Guo et al."""
_MILLION = 1e6

Classes = Int[ndarray, "flow"]


def f1_by_class(truth: Classes, answer: Classes) -> Float[ndarray, "class"]:
    """The F1 score of each class that occurs: 2 right / (belong to it + answered with it).

    A flow of a class that training never saw is `NONE` in `truth`: any class it is answered with
    counts against that class.

    Source: van Rijsbergen, Information Retrieval (1979).
    """
    right, belong, answered = _counts(truth, answer)
    return 2 * right / (belong + answered)


def recall_by_class(truth: Classes, answer: Classes) -> Float[ndarray, "class"]:
    """The share of each class's flows that is found, for each class that occurs."""
    right, belong, _ = _counts(truth, answer)
    return right / belong


def macro_f1(truth: Classes, answer: Classes) -> float:
    """The mean F1 score of the classes that occur."""
    return float(f1_by_class(truth, answer).mean())


def mean_recall(truth: Classes, answer: Classes) -> float:
    """The mean recall of the classes that occur, also called balanced accuracy."""
    return float(recall_by_class(truth, answer).mean())


def false_alarms_per_million(benign: Bool[ndarray, "flow"], alarm: Bool[ndarray, "flow"]) -> float:
    """How many of a million flows that are no attacks are answered with one; 0 without any.

    Source: Axelsson, The Base-Rate Fallacy and the Difficulty of Intrusion Detection (2000): as
    nearly all traffic is harmless, this rate decides whether alarms are worth reading.
    """
    return float(alarm[benign].mean() * _MILLION) if benign.any() else 0.0


def calibration_error(right: Bool[ndarray, "flow"], confidence: Float[ndarray, "flow"]) -> float:
    """Expected calibration error: how far confidence is from the share of right answers.

    The mean over `BINS` bins of equal width, each weighed by its flows.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), equation 3.
    """
    return float(abs(_gaps(right, confidence)).sum() / len(right))


def bins(confidence: Float[ndarray, "flow"]) -> Int[ndarray, "flow"]:
    """The bin of each confidence; the right end belongs to it, as in Guo et al."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def auroc(unknown: Bool[ndarray, "flow"], confidence: Float[ndarray, "flow"]) -> float:
    """Probability that an unknown class's flow is answered with less confidence than a known one's.

    Equal ones count one half. 0.5, as by chance, where all or no flows are unknown.

    Source: Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples (ICLR 2017).
    """
    if unknown.all() or not unknown.any():
        return 0.5
    return float(placements(confidence[~unknown], confidence[unknown]).mean())


def placements(
    of: Float[ndarray, "flow"], among: Float[ndarray, "other"]
) -> Float[ndarray, "flow"]:
    """The share of other numbers that each number exceeds; equal ones count one half."""
    ordered = np.sort(among)
    below, up_to = (np.searchsorted(ordered, of, side=side) for side in ("left", "right"))
    return (below + up_to) / 2 / len(ordered)


def _gaps(right: ndarray, confidence: ndarray) -> ndarray:
    """By bin the sum of (confidence - right)."""
    return np.bincount(bins(confidence), weights=confidence - right, minlength=BINS)


def _counts(truth: ndarray, answer: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Of each class that occurs how many are right, belong to it, are answered with it."""
    classes = np.unique(truth[truth != NONE])
    if not len(classes):
        raise ValueError("At least one flow must belong to a class that was trained, got none.")
    mine, said = truth[:, None] == classes, answer[:, None] == classes
    right, belong, answered = (mine & said).sum(0), mine.sum(0), said.sum(0)
    return right.astype(float), belong.astype(float), answered.astype(float)
