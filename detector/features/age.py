"""For how long an identity is known: novelty of an old acquaintance is another thing than that of a new one."""

from math import inf, log1p
from typing import Final

from detector.baseline import View
from detector.features import Feature
from detector.score import Window


def _age(window: Window, view: View) -> float:
    del window
    return log1p(view.windows)


FEATURES: Final = (
    Feature(
        "age", "", "ln(1 + windows)", 0.0, inf, "Windows that the identity is known for.", "use an old account", _age
    ),
)
