"""Forest: an isolation forest with the scaling of its vectors, and with what its scores mean: alerts a day."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from detector.model.trees import Trees, Values, Vectors

_TAIL_SHARE: Final = 0.1  # of the identity-days of training: from there on their rate falls off exponentially
LEAST_RISK_SCALE_BITS: Final = 12.0  # about one match of a rule that never was: three of them in a day are strange


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
    """A fitted forest, calibrated.

    Args:
        trees: what tells how strange a scaled vector is.
        scaling: of the vectors.
        calibration: what the trees' scores mean.
        risk: what weak signals alone mean.
        stored: scikit-learn's own forest in the format of skops; only after training, see `fit.estimator`.
    """

    def __init__(
        self, trees: Trees, scaling: Scaling, calibration: Calibration, risk: Risk, stored: bytes = b""
    ) -> None:
        self.trees, self.scaling, self.calibration, self.risk, self.stored = trees, scaling, calibration, risk, stored

    def raw_scores(self, vectors: Vectors) -> Values:
        """Strangeness before calibration."""
        return self.trees.scores(self.scaling.apply(vectors))

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
