"""Separation: how well scores tell attacked windows from benign ones, with bootstrap intervals."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

_RESAMPLES: Final = 200
_INTERVAL: Final = (2.5, 97.5)


def separation(
    windows: Sequence[tuple[float, str, float]], attacked: set[tuple[float, str]]
) -> dict[str, tuple[float, float, float] | None]:
    """ROC-AUC and average precision over identity-windows, with bootstrap intervals."""
    truth = np.array([(start, name) in attacked for start, name, _ in windows])
    scores = np.array([score for *_, score in windows])
    if truth.all() or not truth.any():
        return {"roc_auc": None, "average_precision": None}
    random = np.random.default_rng(0)
    picks = [random.integers(0, len(truth), len(truth)) for _ in range(_RESAMPLES)]
    picks = [pick for pick in picks if truth[pick].any()]
    figures: dict[str, tuple[float, float, float] | None] = {}
    for name, measure in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
        low, high = np.percentile([measure(truth[pick], scores[pick]) for pick in picks], _INTERVAL)
        figures[name] = (float(measure(truth, scores)), float(low), float(high))
    return figures
