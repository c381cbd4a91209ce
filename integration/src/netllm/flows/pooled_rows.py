"""Metrics of all flows together, as numbers of episodes whose mean they are.

An F1 score is no mean over episodes. But it is a ratio of sums, R = ΣN / ΣD, and to first order an
episode moves it by (N - R D) / ΣD. So its value here is R plus that, times the number of all flows
over that of its own: weighed by flows, these values have the mean R, and their spread over clusters
is that of R.

Source: the infinitesimal jackknife, Efron, The Jackknife, the Bootstrap and Other Resampling Plans
(1982), chapter 6; of the area under the curve DeLong, DeLong and Clarke-Pearson (1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from netllm_sims.flows import NONE, metrics
from numpy import ndarray

if TYPE_CHECKING:
    from netllm_sims.flows import Answers, HostDay, Setting

_DIGITS = 6


def row(episode: HostDay, answers: Answers, setting: Setting) -> dict[str, Any]:
    """What was answered about the flows of an episode."""
    return {
        "id": episode.id,
        "weight": len(answers.truth),
        "classes": list(setting.classes),
        "truth": answers.truth.tolist(),
        "answer": answers.answer.tolist(),
        "confidence": np.round(answers.confidence, _DIGITS).tolist(),
        "benign": int(answers.benign.sum()),
        "false_alarms": int((answers.benign & answers.alarm).sum()),
    }


def pooled(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with every metric."""
    truth, answer, confidence = (
        np.concatenate([one[name] for one in rows]) for name in ("truth", "answer", "confidence")
    )
    weights = np.array([one["weight"] for one in rows], float)
    of = np.repeat(np.arange(len(rows)), weights.astype(int))
    benign, alarms = (
        np.array([one[name] for one in rows], float) for name in ("benign", "false_alarms")
    )
    values = {
        **_of_classes(truth, answer, of, rows[0]["classes"]),
        "false_alarms_per_million": _ratio(alarms * 1e6, benign),
        "calibration_error": _calibration(truth, answer, confidence, of),
        "unknown_auroc": _unknown(truth == NONE, confidence, of),
    }
    shares = {name: total + own * weights.sum() / weights for name, (total, own) in values.items()}
    return [
        {**one, **{name: float(share[k]) for name, share in shares.items()}}
        for k, one in enumerate(rows)
    ]


Moved = tuple[float, Float[ndarray, "row"]]
"""A metric of all flows, and by how much each row moves it."""


def _ratio(above: Float[ndarray, "row"], below: Float[ndarray, "row"]) -> Moved:
    """Sum over sum; 0 where there is nothing below."""
    if not below.sum():
        return 0.0, np.zeros(len(below))
    total = float(above.sum() / below.sum())
    return total, (above - total * below) / below.sum()


def _sums(values: ndarray, of: ndarray) -> Float[ndarray, "row"]:
    """Sums over the flows of each row."""
    return np.bincount(of, weights=values)


def _of_classes(
    truth: ndarray, answer: ndarray, of: ndarray, names: Sequence[str]
) -> dict[str, Moved]:
    """The recall of each class that occurs; macro F1 and mean recall, the means over these."""
    f1, recall = [], []
    occurring = np.unique(truth[truth != NONE])
    for number in occurring:
        belongs, said = _sums(truth == number, of), _sums(answer == number, of)
        right = _sums((truth == number) & (answer == number), of)
        f1.append(_ratio(2 * right, belongs + said))
        recall.append(_ratio(right, belongs))
    means = {
        name: (float(np.mean([one[0] for one in some])), np.mean([one[1] for one in some], axis=0))
        for name, some in (("macro_f1", f1), ("mean_recall", recall))
    }
    each = zip(occurring, recall, strict=True)
    return means | {recall_key(names[number]): one for number, one in each}


def recall_key(name: str) -> str:
    """What the recall of a class is called in results."""
    return f"recall of {name}"


def _calibration(truth: ndarray, answer: ndarray, confidence: ndarray, of: ndarray) -> Moved:
    """Of flows of known classes; the signs of the bins are taken as they are."""
    known = truth != NONE
    gap = (confidence - (answer == truth)) * known
    bins = metrics.bins(confidence)
    sign = np.sign(np.bincount(bins, weights=gap, minlength=metrics.BINS))
    return _ratio(_sums(sign[bins] * gap, of), _sums(known, of))


def _unknown(unknown: ndarray, confidence: ndarray, of: ndarray) -> Moved:
    """The area under the curve; 0.5, as by chance, where all or no flows are unknown."""
    if unknown.all() or not unknown.any():
        return 0.5, np.zeros(of.max() + 1)
    below = np.zeros(len(unknown))
    below[~unknown] = metrics.placements(confidence[~unknown], confidence[unknown])
    below[unknown] = 1 - metrics.placements(confidence[unknown], confidence[~unknown])
    total, known = _ratio(_sums(below * ~unknown, of), _sums(~unknown, of))
    _, strange = _ratio(_sums(below * unknown, of), _sums(unknown, of))
    return total, known + strange
