"""How much was asked, in the hour and in its busiest minute, against the identity's own rhythm."""

from math import inf, log1p
from typing import Final

from detector.baseline import View
from detector.features import Feature
from detector.score import Window


def _requests(window: Window, view: View) -> float:
    del view
    return log1p(window.requests)


def _against_own(window: Window, view: View) -> float:
    return _deviations(log1p(window.requests), view.usual_rate)


def _peak(window: Window, view: View) -> float:
    return _deviations(log1p(max(window.minutes.values(), default=0)), view.usual_peak)


def _deviations(value: float, usual: tuple[float, float] | None) -> float:
    if usual is None:
        return 0.0
    mean, deviation = usual
    return (value - mean) / (deviation + 0.5)  # half a log unit: no rhythm is steadier than that


FEATURES: Final = (
    Feature("requests", "", "ln(1 + requests)", 0.0, inf, "Requests in the window.", "ask slowly", _requests),
    Feature(
        "rate",
        "",
        "deviations",
        -inf,
        inf,
        "Requests against the identity's own mean and spread.",
        "ask slowly, or only while the identity is busy itself",
        _against_own,
    ),
    Feature(
        "peak",
        "",
        "deviations",
        -inf,
        inf,
        "Requests in the busiest minute, against the identity's own busiest minutes.",
        "spread the requests over the hour: then their number remains",
        _peak,
    ),
)
