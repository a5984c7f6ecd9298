"""Train: learns baselines from archived activities in order of time, and fits the forest on the news of each window.

Every vector is made from what lay before its window only, as in life: a baseline that has seen the whole training set
finds nothing new in it, and a forest fitted on that would not know how much news is normal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

import numpy as np

from detector.activity import Activity
from detector.errors import ModelError
from detector.features import load
from detector.match import Match
from detector.model.forest import Forest, Vectors, fit
from detector.model.windows import Windows, teach
from detector.score import EPISODE_SECONDS, WINDOW_SECONDS, BehaviourState, Window

_WARM_UP_SECONDS = 86_400.0  # everything is new on the first day: it teaches, but no forest learns from it
_WINDOWS_MIN = 200
_IDENTITIES_MIN = 3


@dataclass
class Training:
    """What has been learned so far."""

    seed: int
    state: BehaviourState = field(default_factory=BehaviourState)
    requests: int = 0
    first_seconds: float | None = None
    last_seconds: float = 0.0
    rules: Sequence[str] = ()
    """Names of the rules whose matches are learned too."""
    vectors: list[list[float]] = field(default_factory=list)
    episodes: list[tuple[str, float]] = field(default_factory=list)
    """Whose window of which day each vector is of."""

    def __post_init__(self) -> None:
        """Prepare the windows and the features."""
        self.state.baselines.rules = set(self.rules)
        self._windows = Windows(self.state)
        self._features = load()

    def add(self, activities: Sequence[Activity], matches: Sequence[Match], now: datetime | None) -> None:
        """Learn from activities and the rules that matched them, and close the windows that event time has left."""
        for activity in activities:
            self.requests += 1
            self._windows.add(activity)
        self._windows.note(matches)
        if activities and self.first_seconds is None:
            self.first_seconds = activities[0].time.timestamp() // WINDOW_SECONDS * WINDOW_SECONDS
            self.state.baselines.epoch_seconds = self.first_seconds
        if now is not None:
            self.last_seconds = now.timestamp()
            self._close(self._windows.due(self.last_seconds))

    def finish(self) -> tuple[Forest, BehaviourState]:
        """Close all windows and fit the forest.

        Raises:
            ModelError: there is too little to learn from, with the numbers.
        """
        self._close(self._windows.due(float("inf")))
        identities = len(self.state.baselines.identities)
        if len(self.vectors) < _WINDOWS_MIN or identities < _IDENTITIES_MIN:
            raise ModelError(
                f"too little to learn from: {len(self.vectors)} windows after the first day, {identities} identities; "
                f"at least {_WINDOWS_MIN} and {_IDENTITIES_MIN} are needed; give more days of logs"
            )
        vectors: Vectors = np.array(self.vectors)
        if not np.isfinite(vectors).all():
            raise ModelError("a feature gave a value that is no number; this is a bug of a feature")
        forest = fit(vectors, self.episodes, self.days, self.seed)
        self.state.started.clear()
        self.state.recent.clear()
        return forest, self.state

    @property
    def days(self) -> float:
        """Days that the forest learned from."""
        return max((self.last_seconds - (self.first_seconds or 0.0) - _WARM_UP_SECONDS) / 86_400.0, 1 / 24)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last time of the training."""
        return datetime.fromtimestamp(self.first_seconds or 0.0, UTC), datetime.fromtimestamp(self.last_seconds, UTC)

    def _close(self, windows: list[Window]) -> None:
        for start, group in groupby(windows, key=lambda window: window.start_seconds):
            hour = [(window, self._windows.view(window)) for window in group]
            if start >= (self.first_seconds or 0.0) + _WARM_UP_SECONDS:
                self.vectors += [[feature.value(window, view) for feature in self._features] for window, view in hour]
                self.episodes += [(window.name, start // EPISODE_SECONDS) for window, _ in hour]
            for window, view in hour:
                self._windows.remember(window, view)
                window.guarded.clear()  # what is given to learn from was looked at
                teach(self.state, window, view)
            self._windows.forget(start)
