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
LEAST_RISK_SCALE_BITS: Final = 12.0  # about one match of a rule that never was: three of them in a day are strange
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
    least_scale: float = 1e-9
    """How much more at least makes something e times as strange, where training varied less."""

    def alerts_a_day(self, raw: Values) -> Values:
        """Expected number of benign alerts a day that score at least as high."""
        count = len(self.raw) - np.searchsorted(self.raw, raw, side="left")
        tail = max(int(len(self.raw) * _TAIL_SHARE), 2)
        start = self.raw[-tail]
        scale = max(float(np.mean(self.raw[-tail:] - start)), self.least_scale)
        beyond = tail * np.exp(-(raw - start) / scale)
        return np.asarray(np.where(raw > start, beyond, count) / self.days)


@dataclass(frozen=True, slots=True)
class Risk:
    """What weak signals of one identity add up to within a day; where training had hardly any, no tree can tell."""

    column: int
    """Of the feature that sums them."""
    calibration: Calibration


def threshold_for(alerts_a_day: float) -> float:
    """The score above which training gave that many alerts a day."""
    return 1.0 / (1.0 + alerts_a_day)


def stricter(threshold: float) -> float:
    """The threshold of half as many alerts a day."""
    return threshold_for((1.0 / threshold - 1.0) / 2)


class Forest:
    """A fitted forest. Its trees are laid out as arrays, for scikit-learn needs 8 ms for a single row."""

    def __init__(self, fitted: IsolationForest, scaling: Scaling, calibration: Calibration, risk: Risk) -> None:
        self.fitted, self.scaling, self.calibration, self.risk = fitted, scaling, calibration, risk
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
        self._length = depths + average_path_length(samples)
        self._steps = int(depths.max())
        self._normaliser = len(trees) * float(average_path_length(np.array([fitted.max_samples_]))[0])

    def raw_scores(self, vectors: Vectors) -> Values:
        """Strangeness before calibration, equal to minus scikit-learn's `score_samples`; here the sign is turned."""
        scaled = self.scaling.apply(vectors).astype(np.float32).astype(np.float64)  # trees compare single precision
        rows = np.arange(len(scaled))[:, None]
        node = np.broadcast_to(self._roots, (len(scaled), len(self._roots)))
        for _ in range(self._steps):
            goes_left = scaled[rows, self._feature[node]] <= self._threshold[node]
            node = np.where(goes_left, self._left[node], self._right[node])
        return np.asarray(2.0 ** (-self._length[node].sum(axis=1) / self._normaliser))

    def alerts_a_day(self, vectors: Vectors) -> Values:
        """Expected number of benign alerts a day that are as strange, by the trees or by the signals alone."""
        by_trees = self.calibration.alerts_a_day(self.raw_scores(vectors))
        return np.minimum(by_trees, self.risk.calibration.alerts_a_day(vectors[:, self.risk.column]))

    def is_risky(self, vector: Values) -> bool:
        """Whether the signals alone are stranger than what the trees make of the whole; shape (n_features,)."""
        by_trees = self.calibration.alerts_a_day(self.raw_scores(vector[None]))[0]
        return bool(self.risk.calibration.alerts_a_day(vector[None, self.risk.column])[0] < by_trees)

    def scores(self, vectors: Vectors) -> Values:
        """0 to 1, higher is stranger: 1 / (1 + alerts a day), so that a threshold means a number of alerts a day."""
        return np.asarray(1.0 / (1.0 + self.alerts_a_day(vectors)))


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
    unknown = Calibration(np.zeros(2), days)
    raw = Forest(fitted, scaling, unknown, Risk(risk_column, unknown)).raw_scores(vectors)
    risk = Calibration(_greatest(episodes, vectors[:, risk_column]), days, LEAST_RISK_SCALE_BITS)
    return Forest(fitted, scaling, Calibration(_greatest(episodes, raw), days), Risk(risk_column, risk))


def _greatest(episodes: Sequence[Hashable | None], values: Values) -> Values:
    """The greatest value of each episode, ascending."""
    greatest: dict[Hashable, float] = {}
    for episode, value in zip(episodes, values, strict=True):
        if episode is None:
            continue
        greatest[episode] = max(float(value), greatest.get(episode, 0.0))
    return np.sort(list(greatest.values()))


def _depths(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Depth of each node; parents stand before their children."""
    depths = np.zeros(len(left), dtype=np.int64)
    for node in range(len(left)):
        if left[node] >= 0:
            depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths


def average_path_length(samples: NDArray[np.int64]) -> Values:
    """Average depth of an unsuccessful search in a binary tree of so many samples, c(n) of the paper."""
    many = np.maximum(samples, 3).astype(np.float64)
    length = 2.0 * (np.log(many - 1.0) + _EULER_GAMMA) - 2.0 * (many - 1.0) / many
    return np.asarray(np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, length)))
