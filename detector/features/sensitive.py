"""Touches of what an intruder wants, weighted by how unusual they are for this identity."""

from math import inf, log1p
from typing import Final

from detector.baseline import View
from detector.features import Feature
from detector.score import Window

# How near a resource brings an intruder to the keys of the cluster: 4 gives rights or code at once, 3 credentials or a
# shell, 2 a foothold, 1 information.
_WEIGHTS: Final = {
    "serviceaccounts/token": 4,
    "clusterrolebindings": 4,
    "mutatingwebhookconfigurations": 4,
    "validatingwebhookconfigurations": 4,
    "certificatesigningrequests/approval": 4,
    "nodes/proxy": 4,
    "secrets": 3,
    "pods/exec": 3,
    "pods/attach": 3,
    "pods/ephemeralcontainers": 3,
    "rolebindings": 3,
    "clusterroles": 3,
    "roles": 3,
    "pods/portforward": 2,
    "daemonsets": 2,
    "cronjobs": 2,
    "configmaps": 1,
}
_DODGE: Final = "touch sensitive things only where the identity does so anyway"


def _weight(place: str) -> int:
    return _WEIGHTS.get(place.partition("@")[0], 0)


def _surprise(window: Window, view: View) -> float:
    weighted = (_weight(place) * view.surprise_bits("place", place) for place in window.seen["place"] if _weight(place))
    return max(weighted, default=0.0)


def _new(window: Window, view: View) -> float:
    return log1p(sum(_weight(place) for place in window.seen["place"] if view.is_new("place", place)))


FEATURES: Final = (
    Feature(
        "sensitive_surprise",
        "place",
        "weighted bits",
        0.0,
        80.0,
        "The most surprising sensitive resource, by its weight.",
        _DODGE,
        _surprise,
    ),
    Feature("sensitive_new", "place", "ln(1 + weight)", 0.0, inf, "Sensitive resources never had.", _DODGE, _new),
)
