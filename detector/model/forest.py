"""Forest: scikit-learn's isolation forest, scaled, calibrated, and evaluated fast for the few rows of a live stream.

Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008; scikit-learn `ensemble/_iforest.py`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

Vectors: TypeAlias = NDArray[np.float64]
"""Shape (n_windows, n_features)."""
Values: TypeAlias = NDArray[np.float64]
"""Shape (n_windows,)."""

_TREES: Final = 300
_SAMPLES: Final = 512
_EULER_GAMMA: Final = 0.5772156649015329
_TAIL_SHARE: Final = 0.1  # of the identity-days of training: from there on their rate falls off exponentially


@dataclass(frozen=True, slots=True)
class Scaling:
    """Robust scaling: the median, and the span between the 5th and the 95th percentile, of each feature."""

    centre: Values
    span: Values

    def apply(self, vectors: Vectors) -> Vectors:
        """Scale; a feature that was constant in training keeps its unit."""
        return (vectors - self.centre) / self.span


@dataclass(frozen=True, slots=True)
class Calibration:
    """How many alerts a day are as strange, by training: empirical, and beyond its tail exponential."""

    raw: Values
    """Raw score of the strangest window of each identity on each day of training, ascending: that is one alert."""
    days: float

    def alerts_a_day(self, raw: Values) -> Values:
        """Expected number of benign alerts a day that score at least as high."""
        count = len(self.raw) - np.searchsorted(self.raw, raw, side="left")
        tail = max(int(len(self.raw) * _TAIL_SHARE), 2)
        start = self.raw[-tail]
        scale = max(float(np.mean(self.raw[-tail:] - start)), 1e-9)
        beyond = tail * np.exp(-(raw - start) / scale)
        return np.asarray(np.where(raw > start, beyond, count) / self.days)

    def scores(self, raw: Values) -> Values:
        """0 to 1, higher is stranger: 1 / (1 + alerts a day), so that a threshold means a number of alerts a day."""
        return np.asarray(1.0 / (1.0 + self.alerts_a_day(raw)))


def threshold_for(alerts_a_day: float) -> float:
    """The score above which training gave that many alerts a day."""
    return 1.0 / (1.0 + alerts_a_day)


def stricter(threshold: float) -> float:
    """The threshold of half as many alerts a day."""
    return threshold_for((1.0 / threshold - 1.0) / 2)


class Forest:
    """A fitted forest. Its trees are laid out as arrays, for scikit-learn needs 8 ms for a single row."""

    def __init__(self, fitted: IsolationForest, scaling: Scaling, calibration: Calibration) -> None:
        self.fitted, self.scaling, self.calibration = fitted, scaling, calibration
        trees = [estimator.tree_ for estimator in fitted.estimators_]
        offsets = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        self._roots = offsets
        self._feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        leaf = self._feature < 0
        own = np.arange(len(leaf))
        left = np.concatenate([tree.children_left + offset for tree, offset in zip(trees, offsets, strict=True)])
        right = np.concatenate([tree.children_right + offset for tree, offset in zip(trees, offsets, strict=True)])
        self._left, self._right = np.where(leaf, own, left), np.where(leaf, own, right)
        self._feature = np.where(leaf, 0, self._feature)
        depths = np.concatenate([_depths(tree.children_left, tree.children_right) for tree in trees])
        samples = np.concatenate([tree.n_node_samples for tree in trees])
        self._length = depths + _average_path_length(samples)
        self._steps = int(depths.max())
        self._normaliser = len(trees) * float(_average_path_length(np.array([fitted.max_samples_]))[0])

    def raw_scores(self, vectors: Vectors) -> Values:
        """Strangeness before calibration, equal to minus scikit-learn's `score_samples`; here the sign is turned."""
        scaled = self.scaling.apply(vectors).astype(np.float32).astype(np.float64)  # trees compare single precision
        rows = np.arange(len(scaled))[:, None]
        node = np.broadcast_to(self._roots, (len(scaled), len(self._roots)))
        for _ in range(self._steps):
            goes_left = scaled[rows, self._feature[node]] <= self._threshold[node]
            node = np.where(goes_left, self._left[node], self._right[node])
        return np.asarray(2.0 ** (-self._length[node].sum(axis=1) / self._normaliser))

    def scores(self, vectors: Vectors) -> Values:
        """Calibrated strangeness, 0 to 1."""
        return self.calibration.scores(self.raw_scores(vectors))


def fit(vectors: Vectors, episodes: Sequence[Hashable], days: float, seed: int) -> Forest:
    """Fit a forest on training windows that span some days; the same seed gives the same forest.

    Args:
        vectors: shape (n_windows, n_features).
        episodes: for each window whose and of which day it is; what is one alert.
        days: that the windows span.
        seed: of the random numbers.
    """
    low, centre, high = np.percentile(vectors, [5, 50, 95], axis=0)
    span = high - low
    scaling = Scaling(centre, np.where(span < 1e-6, 1.0, span))
    fitted = IsolationForest(n_estimators=_TREES, max_samples=min(_SAMPLES, len(vectors)), random_state=seed)
    fitted.fit(scaling.apply(vectors))
    uncalibrated = Forest(fitted, scaling, Calibration(np.zeros(2), days))
    strangest: dict[Hashable, float] = {}
    for episode, raw in zip(episodes, uncalibrated.raw_scores(vectors), strict=True):
        strangest[episode] = max(float(raw), strangest.get(episode, 0.0))
    return Forest(fitted, scaling, Calibration(np.sort(list(strangest.values())), days))


def _depths(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Depth of each node; parents stand before their children."""
    depths = np.zeros(len(left), dtype=np.int64)
    for node in range(len(left)):
        if left[node] >= 0:
            depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths


def _average_path_length(samples: NDArray[np.int64]) -> Values:
    """Average depth of an unsuccessful search in a binary tree of so many samples, c(n) of the paper."""
    many = np.maximum(samples, 3).astype(np.float64)
    length = 2.0 * (np.log(many - 1.0) + _EULER_GAMMA) - 2.0 * (many - 1.0) / many
    return np.asarray(np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, length)))
