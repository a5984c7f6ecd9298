"""Train: learns baselines from archived activities in order of time, and fits the forest on the news of each window.

Every vector is made from what lay before its window only, as in life: a baseline that has seen the whole training set
finds nothing new in it, and a forest fitted on that would not know how much news is normal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, pairwise

import numpy as np

from detector.activity import Activity
from detector.errors import ModelError
from detector.features import load, risk_column
from detector.match import Match
from detector.model.curation import Curation
from detector.model.fit import fit
from detector.model.forest import Forest
from detector.model.histogram import Histogram, histogram
from detector.model.trees import Vectors
from detector.model.windows import Windows, teach
from detector.score import EPISODE_SECONDS, WINDOW_SECONDS, BehaviourState, Window

_WARM_UP_SECONDS = 86_400.0  # everything is new on the first day: it teaches, but no forest learns from it
_WINDOWS_MIN = 200
_IDENTITIES_MIN = 3
_LATE_SHARE_MAX = 0.05  # of requests; of files in order, none is
_CALIBRATING_DAYS_MIN = 4  # of fewer, a part is too little to tell how strange is usual
_DAY = timedelta(days=1)


@dataclass
class Training:
    """What has been learned so far."""

    seed: int
    curation: Curation = field(default_factory=Curation)
    state: BehaviourState = field(default_factory=BehaviourState)
    requests: int = 0
    first_seconds: float | None = None
    last_seconds: float = 0.0
    rules: Sequence[str] = ()
    """Names of the rules whose matches are learned too."""
    vectors: list[list[float]] = field(default_factory=list)
    episodes: list[tuple[str, float]] = field(default_factory=list)
    """Whose window of which day each vector is of."""
    _dates: set[date] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Prepare the windows and the features."""
        self.state.baselines.rules = set(self.rules)
        self._windows = Windows(self.state)
        self._features = load()

    def add(self, activities: Sequence[Activity], matches: Sequence[Match], now: datetime | None) -> None:
        """Learn from activities and the rules that matched them, and close the windows that event time has left."""
        kept = self.curation.keep(activities)
        if len(kept) < len(activities):
            ids = set(map(id, kept))
            matches = [match for match in matches if id(match.activity) in ids]
        activities = kept
        for activity in activities:
            self.requests += 1
            self._dates.add(activity.time.date())
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
        if self._windows.late:
            self.curation.left_out["after their hour was over"] = self._windows.late
        if self._windows.late > _LATE_SHARE_MAX * self.requests:
            raise ModelError(
                f"{self._windows.late:,} of {self.requests:,} requests came after their hour was over: the events of a "
                "file are not in order of time; sort each by stageTimestamp, or give the log of each API server as a "
                "file of its own"
            )
        identities = len(self.state.baselines.identities)
        if len(self.vectors) < _WINDOWS_MIN or identities < _IDENTITIES_MIN:
            raise ModelError(
                f"too little to learn from: {len(self.vectors)} windows after the first day, {identities} identities; "
                f"at least {_WINDOWS_MIN} and {_IDENTITIES_MIN} are needed; give more days of logs"
            )
        vectors: Vectors = np.array(self.vectors)
        broken = (~np.isfinite(vectors)).sum(axis=0)
        if broken.any():
            told = ", ".join(
                f"{feature.name} in {count}" for feature, count in zip(self._features, broken, strict=True) if count
            )
            raise ModelError(f"features gave no number in windows of {len(vectors)}: {told}; this is a bug of theirs")
        if (vectors == vectors[0]).all():
            raise ModelError(f"all {len(vectors)} windows are alike, so nothing could be stranger; give other logs")
        episodes, days = self._calibrating()
        forest = fit(vectors, episodes, days, self.seed, risk_column())
        self.state.started.clear()
        self.state.recent.clear()
        return forest, self.state

    @property
    def days(self) -> float:
        """Days that the forest learned from."""
        seconds = self.last_seconds - (self.first_seconds or 0.0) - _WARM_UP_SECONDS
        silent = sum((last - first).days + 1 for first, last in self.silent)
        return max(seconds / 86_400.0 - silent, 1 / 24)

    @property
    def silent(self) -> tuple[tuple[date, date], ...]:
        """First and last of days within the span on which no event was logged."""
        last = datetime.fromtimestamp(self.last_seconds, UTC).date()
        logged = sorted(day for day in self._dates if day <= last)
        return tuple((before + _DAY, after - _DAY) for before, after in pairwise(logged) if after - before > _DAY)

    @property
    def histograms(self) -> tuple[Histogram, ...]:
        """How each feature was distributed, in the order of the features."""
        return tuple(map(histogram, np.array(self.vectors).T))

    @property
    def about(self) -> dict[str, object]:
        """What the manifest says of the training."""
        first, last = self.span
        return {
            "seed": self.seed,
            "first_time": first,
            "last_time": last,
            "requests": self.requests,
            "days": self.days,
            "left_out": dict(sorted(self.curation.left_out.items())),
            "silent": self.silent,
        }

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last time of the training."""
        return datetime.fromtimestamp(self.first_seconds or 0.0, UTC), datetime.fromtimestamp(self.last_seconds, UTC)

    def _calibrating(self) -> tuple[list[tuple[str, float] | None], float]:
        """The episodes of the last two thirds of the days, and how many days these are.

        In the first days much is new only because the baselines are young: a threshold set by them would be too high.
        Measured on training days held back, of two clusters: it then gave as many alerts a day as asked for.
        """
        dates = sorted({day for _, day in self.episodes})
        later = set(dates[len(dates) // 3 :] if len(dates) >= _CALIBRATING_DAYS_MIN else dates)
        return [one if one[1] in later else None for one in self.episodes], self.days * len(later) / len(dates)

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
