"""Reasons: which habits a window is strange by, beside what is usual for the identity and for its peers."""

from collections.abc import Sequence
from math import expm1
from typing import Final

import numpy as np

from detector.baseline import View
from detector.features import Feature
from detector.habits import DIMENSIONS, SIGNAL
from detector.model.forest import Forest
from detector.model.trees import Vectors
from detector.score import Reason, Window

_REASONS_KEPT: Final = 5


def explain(
    forest: Forest, features: Sequence[Feature], window: Window, view: View, vector: Vectors
) -> tuple[Reason, ...]:
    """What each dimension adds: less strange without it, and stranger by it alone, than in training; the mean of both.

    These are the last and the first of the orders that a Shapley value is the mean of. Leaving out alone would find
    nothing where two dimensions tell the same. Source: Lundberg, Lee, "A Unified Approach to Interpreting Model
    Predictions", 2017.
    """
    names = [feature.dimension or feature.name for feature in features]
    dimensions = sorted(set(names))
    columns = [[name == dimension for name in names] for dimension in dimensions]
    usual = forest.scaling.centre
    without, alone = np.where(columns, usual, vector), np.where(columns, vector, usual)
    raw = forest.raw_scores(np.vstack([vector, usual, without, alone]))
    added = np.maximum((raw[0] - raw[2 : 2 + len(columns)]) + (raw[2 + len(columns) :] - raw[1]), 0.0)
    shares = added / max(float(added.sum()), 1e-12)
    if forest.is_risky(vector):  # the trees saw less in it than the signals alone tell
        shares = (shares + (np.array(dimensions) == SIGNAL)) / 2
    strongest = sorted(range(len(dimensions)), key=lambda index: (-shares[index], dimensions[index]))
    return tuple(
        _reason(dimensions[index], float(shares[index]), window, view)
        for index in strongest[:_REASONS_KEPT]
        if shares[index] > 0
    )


def _reason(dimension: str, share: float, window: Window, view: View) -> Reason:
    if dimension not in DIMENSIONS:
        usual = view.usual_rate
        mean = "unknown" if usual is None else f"{expm1(usual[0]):.0f} requests an hour"
        return Reason(dimension, f"{window.requests} requests an hour", mean, "", round(share, 4))
    seen = sorted(window.seen[dimension], key=lambda token: (-view.surprise_bits(dimension, token), token))
    new = [token for token in seen if view.is_new(dimension, token)]
    earlier = sorted(set(view.recent.get(dimension, ())) - set(new))
    return Reason(
        dimension,
        _listed(new + earlier or seen),
        _listed(view.usual(dimension)) or "nothing known yet",
        _listed(view.peers_usual(dimension)),
        round(share, 4),
    )


def _listed(found: Sequence[str], count: int = 3) -> str:
    more = f" and {len(found) - count} more" if len(found) > count else ""
    return ", ".join(found[:count]) + more
