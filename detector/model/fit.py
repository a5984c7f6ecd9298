"""Fit: scikit-learn's isolation forest on the vectors of a training; the one place that draws random numbers.

Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008; scikit-learn `ensemble/_iforest.py`.
"""

import zipfile
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from sklearn.ensemble import IsolationForest
from skops import io as skops_io

from detector.errors import ModelError
from detector.model.forest import LEAST_RISK_SCALE_BITS, Calibration, Forest, Risk, Scaling
from detector.model.trees import Values, Vectors, from_estimator

_TREES: Final = 300
_SAMPLES: Final = 512
# What an isolation forest is made of, beside what skops trusts by itself.
_TRUSTED: Final = ("sklearn.tree._tree.Tree", "sklearn.ensemble._iforest._average_path_length")


def fit(vectors: Vectors, episodes: Sequence[Hashable | None], days: float, seed: int, risk_column: int) -> Forest:
    """Fit a forest on training windows that span some days; the same seed gives the same forest.

    Args:
        vectors: shape (n_windows, n_features).
        episodes: for each window whose and of which day it is; what is one alert. None: the baselines were too young
            then for the window to tell how strange is usual.
        days: that the windows with an episode span.
        seed: of the random numbers.
        risk_column: of the feature that sums up an identity's weak signals of a day, in bits.
    """
    low, centre, high = np.percentile(vectors, [5, 50, 95], axis=0)
    span = high - low
    scaling = Scaling(centre, np.where(span < 1e-6, 1.0, span))
    fitted = IsolationForest(n_estimators=_TREES, max_samples=min(_SAMPLES, len(vectors)), random_state=seed)
    fitted.fit(scaling.apply(vectors))
    trees = from_estimator(fitted)
    calibration = Calibration(_greatest(episodes, trees.scores(scaling.apply(vectors))), days)
    risk = Calibration(_greatest(episodes, vectors[:, risk_column]), days, LEAST_RISK_SCALE_BITS)
    stored = skops_io.dumps({"forest": fitted}, compression=zipfile.ZIP_DEFLATED, compresslevel=9)
    return Forest(trees, scaling, calibration, Risk(risk_column, risk), stored)


def estimator(stored: bytes) -> IsolationForest:
    """Read back scikit-learn's own forest, for whoever wants to look into it; scoring needs the trees only.

    Raises:
        ModelError: it is none, or holds what no isolation forest is made of.
    """
    try:
        fitted = skops_io.loads(stored, trusted=list(_TRUSTED))["forest"]
    except Exception as error:
        raise ModelError(f"model.skops cannot be loaded: {type(error).__name__}; train the model anew") from error
    if not isinstance(fitted, IsolationForest):
        raise ModelError("model.skops holds no isolation forest; train the model anew")
    return fitted


def _greatest(episodes: Sequence[Hashable | None], values: Values) -> Values:
    """The greatest value of each episode, ascending."""
    greatest: dict[Hashable, float] = {}
    for episode, value in zip(episodes, values, strict=True):
        if episode is not None:
            greatest[episode] = max(float(value), greatest.get(episode, 0.0))
    return np.sort(list(greatest.values()))
