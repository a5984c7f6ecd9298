"""How new a window's tokens are, in each dimension: the rarest one, and the sum and number of those never had before.

Surprise is minus log2 of a token's probability under own habits blended with those of peers, so that a new member of
a known group, or a known member doing what its peers do, is no alarm by itself. In the dimensions that are an
identity's own affair (objects, hours, outcomes), an identity without a history is not surprising at all: it is
confidence in the baseline that makes news of a new token.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from detector.baseline import View
from detector.features import Feature
from detector.habits import DIMENSIONS
from detector.score import Window

_OWN_AFFAIR: Final = frozenset({"object", "hours", "outcome"})
_CONFIDENT_WINDOWS: Final = 4.0  # windows after which an identity's own baseline is half trusted

_DODGES: Final = {
    "action": "keep to verbs and resources that the identity uses anyway: much of an attack needs others",
    "namespace": "stay in the identity's namespaces",
    "place": "read only what the identity reads where it reads it",
    "object": "touch only objects of names that the identity knows",
    "client": "imitate the identity's own client; the user agent is free to choose, so this never counts alone",
    "network": "work from the identity's own pod or network: a stolen token is then of little use elsewhere",
    "hours": "work at the hours of the identity",
    "outcome": "know beforehand what is allowed",
    "signal": "keep to what no rule sees, or what rules see of this identity anyway",
}


def _confidence(dimension: str, view: View) -> float:
    return view.windows / (view.windows + _CONFIDENT_WINDOWS) if dimension in _OWN_AFFAIR else 1.0


def _highest(dimension: str) -> Callable[[Window, View], float]:
    return lambda window, view: view.news(dimension, window.seen[dimension]).highest_bits * _confidence(dimension, view)


def _sum_new(dimension: str) -> Callable[[Window, View], float]:
    return lambda window, view: view.news(dimension, window.seen[dimension]).new_bits * _confidence(dimension, view)


def _count_new(dimension: str) -> Callable[[Window, View], float]:
    return lambda window, view: (
        len(view.news(dimension, window.seen[dimension]).new_tokens) * _confidence(dimension, view)
    )


FEATURES: Final = tuple(
    feature
    for dimension in DIMENSIONS
    for feature in (
        Feature(
            f"{dimension}_surprise",
            dimension,
            "bits",
            0.0,
            20.0,
            f"The most surprising {dimension} of the window.",
            _DODGES[dimension],
            _highest(dimension),
        ),
        Feature(
            f"{dimension}_news",
            dimension,
            "bits",
            0.0,
            inf,
            f"Sum of the surprise of every {dimension} that the identity never had.",
            _DODGES[dimension],
            _sum_new(dimension),
        ),
        Feature(
            f"{dimension}_new",
            dimension,
            "tokens",
            0.0,
            inf,
            f"How many of {dimension} the identity never had.",
            _DODGES[dimension],
            _count_new(dimension),
        ),
    )
)
