"""Features: each file measures windows in one respect; `load()` finds them all, in a fixed order.

A feature sees a window and what was known before it, never what came after: in training exactly as in life.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from detector.baseline import View
from detector.score import Window


@dataclass(frozen=True, slots=True)
class Feature:
    """One measure of a window."""

    name: str
    dimension: str
    """The dimension of habits that explains it, or empty."""
    unit: str
    low: float
    high: float
    """Range of the values; infinity where there is no bound."""
    about: str
    """What it measures."""
    dodge: str
    """What an intruder would do to keep it low, and what that costs them."""
    value: Callable[[Window, View], float]


RISK: Final = "day_signal_news"
"""The feature that sums up an identity's weak signals of a day."""


def risk_column() -> int:
    """Where that feature stands among all."""
    return [feature.name for feature in load()].index(RISK)


def load() -> tuple[Feature, ...]:
    """Every feature of every file, ordered by file and then as they stand in it."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(feature for name in modules for feature in importlib.import_module(f"{__name__}.{name}").FEATURES)
