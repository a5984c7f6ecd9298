"""Over how many kinds of things and namespaces a window goes."""

from math import inf, log1p
from typing import Final

from detector.baseline import View
from detector.features import Feature
from detector.score import Window


def _namespaces(window: Window, view: View) -> float:
    del view
    return log1p(len(window.seen["namespace"]))


def _actions(window: Window, view: View) -> float:
    del view
    return log1p(len(window.seen["action"]))


FEATURES: Final = (
    Feature(
        "namespaces",
        "namespace",
        "ln(1 + namespaces)",
        0.0,
        inf,
        "Namespaces in the window.",
        "take one namespace an hour: then the news of each remains",
        _namespaces,
    ),
    Feature("actions", "action", "ln(1 + actions)", 0.0, inf, "Kinds of acts in the window.", "do little", _actions),
)
