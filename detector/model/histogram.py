"""Histogram: how one feature was distributed in training, and how far later values are from that.

Only the upper tail is told apart, for there a forest finds what is strange. The middle moves by itself while a
baseline grows up: with deciles as bins, the surprise of unchanged habits drifts greatly within days.
"""

from math import log
from typing import Final, NamedTuple

import msgspec
import numpy as np

from detector.model.trees import Values

_LEVELS: Final = (0.9, 0.95, 0.99)
_TOLERANCE: Final = 0.05  # of the range in training: as much as a steady feature may creep
_PRIOR: Final = 0.5  # windows that each bin has beside those counted: an empty one is rare, not impossible


class Shift(NamedTuple):
    """How far values are from those of the training."""

    stability_index: float
    """Population stability index: 0 is alike, from 0.25 on another population."""
    rose: bool
    """Whether more of them lie in the tail, not fewer."""


class Histogram(msgspec.Struct, frozen=True):
    """Counts of a feature's values in bins that end at its 90th, 95th and 99th percentile."""

    edges: tuple[float, ...]
    """Upper ends of the bins, ascending; the last bin has none. Equal percentiles give one."""
    counts: tuple[int, ...]
    """One more than edges."""
    tolerance: float
    """By how much values may lie higher or lower and still count as alike; zero if every value was the same."""

    @property
    def constant(self) -> bool:
        """Whether every value was the same."""
        return self.tolerance == 0

    def shift(self, values: Values) -> Shift:
        """Compare later values with these.

        Source: Siddiqi, "Credit Risk Scorecards", 2006: the sum of (a - b) * ln(a / b) over the shares of the bins.
        """
        higher, lower = self._compare(values - self.tolerance), self._compare(values + self.tolerance)
        if higher.rose:
            return higher
        return Shift(0.0, rose=False) if lower.rose else lower

    def _compare(self, values: Values) -> Shift:
        pairs = list(zip(_shares(_count(values, self.edges)), _shares(self.counts), strict=True))
        index = sum((after - before) * log(after / before) for after, before in pairs)
        rise = sum(place * (after - before) for place, (after, before) in enumerate(pairs))
        return Shift(index, rise > 0)


def histogram(values: Values) -> Histogram:
    """Count values."""
    edges = tuple(map(float, np.unique(np.quantile(values, _LEVELS, method="higher"))))
    return Histogram(edges, _count(values, edges), _TOLERANCE * float(np.ptp(values)))


def _count(values: Values, edges: tuple[float, ...]) -> tuple[int, ...]:
    bins = np.searchsorted(edges, values, side="left")
    return tuple(map(int, np.bincount(bins, minlength=len(edges) + 1)))


def _shares(counts: tuple[int, ...]) -> list[float]:
    total = sum(counts) + _PRIOR * len(counts)
    return [(count + _PRIOR) / total for count in counts]
