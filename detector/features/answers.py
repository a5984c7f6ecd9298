"""How the requests of a window were answered, and how many of them write."""

from typing import Final

from detector.baseline import View
from detector.features import Feature
from detector.score import Window

_FULL_WEIGHT_REQUESTS: Final = 3  # one refusal of a single request is no share to speak of


def _share(count: int, requests: int) -> float:
    return count / max(requests, 1) * min(1.0, requests / _FULL_WEIGHT_REQUESTS)


def _refused(window: Window, view: View) -> float:
    del view
    return _share(window.refused, window.requests)


def _missing(window: Window, view: View) -> float:
    del view
    return _share(window.missing, window.requests)


def _writes(window: Window, view: View) -> float:
    del view
    return window.writes / max(window.requests, 1)


FEATURES: Final = (
    Feature(
        "refused", "outcome", "share", 0.0, 1.0, "Refused requests (401, 403).", "ask only what is allowed", _refused
    ),
    Feature("missing", "outcome", "share", 0.0, 1.0, "Requests for what is not there.", "do not guess names", _missing),
    Feature("writes", "action", "share", 0.0, 1.0, "Requests that change something.", "only read", _writes),
)
