"""What was new over a whole day: an intruder who takes an hour for each step is as visible as one in a hurry."""

from collections.abc import Callable
from math import inf
from typing import Final

from detector.baseline import View
from detector.features import Feature
from detector.score import Window

_DIMENSIONS: Final = ("action", "namespace", "place", "object", "network", "signal")


def _news(dimension: str) -> Callable[[Window, View], float]:
    def value(window: Window, view: View) -> float:
        earlier = view.recent.get(dimension, {})
        now = view.news(dimension, window.seen[dimension]).new_tokens
        return sum(earlier.values()) + sum(bits for token, bits in now if token not in earlier)

    return value


FEATURES: Final = tuple(
    Feature(
        f"day_{dimension}_news",
        dimension,
        "bits",
        0.0,
        inf,
        f"Sum of the surprise of every {dimension} that was new within 24 hours.",
        "take more than a day for what else takes an hour: then the news of each hour remains",
        _news(dimension),
    )
    for dimension in _DIMENSIONS
)
