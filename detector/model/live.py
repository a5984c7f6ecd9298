"""Live: scores the windows of all identities as they grow and when they close, and lets the usual teach.

Where somebody waits, a window is scored whenever it brings something new; what counts is the score at its end, so that
a replay, which scores there only, comes to the same alerts. The strange hours of an identity's day are one episode.
What looked strange does not teach: a second run of an intrusion must be as strange as the first.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby
from math import inf, log1p
from typing import Final

import numpy as np

from detector.activity import Activity
from detector.baseline import View
from detector.features import load
from detector.match import Match
from detector.model.forest import Forest, stricter
from detector.model.reasons import explain
from detector.model.trees import Vectors
from detector.model.weigh import weigh
from detector.model.windows import LATENESS_SECONDS, Windows, teach
from detector.request import Request
from detector.score import EPISODE_SECONDS, NOVEL_KEPT, BehaviourState, Episode, Score, Verdict, Weight, Window

_YOUNG_WINDOWS: Final = 12.0  # half a day: habits of fewer hours are no habits
_STRANGERS_SHARE: Final = 0.5  # of an hour's identities; from it on the baselines know too little to judge strangers
_STRANGERS_MIN: Final = 5
_COLD_SECONDS: Final = 86_400.0  # people come at other hours than machines
_BURST_DEVIATIONS: Final = 3.0


class Behaviour:
    """Scores identities' behaviour.

    Args:
        forest: what tells how strange a vector is; its columns are the features in their order.
        state: baselines, open windows and episodes.
        threshold: score from which a window is strange.
        live: somebody waits, so what is strange is given at once; otherwise only when its day is over.
        observe: takes every window with its vector and score as it closes, to measure how well they are told apart.
    """

    def __init__(
        self,
        forest: Forest,
        state: BehaviourState,
        threshold: float,
        *,
        live: bool = True,
        observe: Callable[[Window, Vectors, float], None] | None = None,
    ) -> None:
        self.state = state
        self._forest, self._features, self._threshold = forest, load(), threshold
        self._live, self.observe = live, observe
        self._windows = Windows(state)
        self._weights: list[Weight] = []

    def update(self, activities: Sequence[Activity], matches: Sequence[Match] = ()) -> list[Score]:
        """Count activities, and the rules that matched them; what is strange already comes back."""
        added = [window for window in map(self._windows.add, activities) if window]
        added += self._windows.note(matches)
        if not self._live:
            return []
        for window in {id(window): window for window in map(self._windows.of, matches) if window}.values():
            self._weights += weigh(window, self._windows.view(window))
        return self._peek(list({(window.start_seconds, window.name): window for window in added}.values()))

    def advance(self, now: datetime) -> list[Score]:
        """Move event time on: windows and days that are over close; the strange come back, the usual teach."""
        seconds = now.timestamp()
        over = self._windows.due(seconds)
        scores = self._close(over)
        if over and self._live:  # these could not be judged before the hour before them was learned
            scores += self._peek([w for windows in self.state.windows.values() for w in windows.values() if w.novel])
        return scores + self._complete(seconds)

    def finish(self) -> list[Score]:
        """Close every window: nothing more will come."""
        return self._close(self._windows.due(inf)) + self._complete(inf)

    def weights(self) -> list[Weight]:
        """How usual what rules saw was, since this was asked last."""
        weights, self._weights = self._weights, []
        return weights

    def _peek(self, windows: Sequence[Window]) -> list[Score]:
        """Score windows before their end, where the hours before them are learned already.

        Only the clearly strange is told: what stands on the threshold may lie below it in the end.
        """
        ready = [window for window in windows if window.start_seconds <= self.state.closed_before_seconds]
        views = [self._windows.view(window) for window in ready]
        vectors = self._vectors(ready, views)
        episodes: list[Episode] = []
        for window, view, vector, value in zip(ready, views, vectors, self._forest.scores(vectors), strict=True):
            if (value >= stricter(self._threshold) or window.shown) and not self._is_unjudged(window, view):
                window.shown = True
                episode = self._episode(window)
                episode.peeked = self._verdict(window, view, vector, float(value))
                episode.peeked_requests = _novel(window, view)
                episodes.append(episode)
        return self._told(episodes)

    def _close(self, windows: Sequence[Window]) -> list[Score]:
        scores: list[Score] = []
        for start, hour in groupby(windows, key=lambda window: window.start_seconds):
            scores += self._close_hour(list(hour))
            self._windows.forget(start)
        return scores

    def _close_hour(self, windows: Sequence[Window]) -> list[Score]:
        views = [self._windows.view(window) for window in windows]
        for window, view in zip(windows, views, strict=True):
            self._weights += weigh(window, view)
        pairs = [pair for pair in zip(windows, views, strict=True) if self.observe or _may_be_strange(*pair)]
        vectors = self._vectors([window for window, _ in pairs], [view for _, view in pairs])
        strangers = sum(view.windows == 0 for view in views)
        if strangers >= max(_STRANGERS_MIN, _STRANGERS_SHARE * len(views)):
            self.state.cold_until_seconds = windows[0].start_seconds + _COLD_SECONDS
        strange: dict[str, Episode] = {}
        for (window, view), vector, value in zip(pairs, vectors, self._forest.scores(vectors), strict=True):
            if value >= self._threshold and not self._is_unjudged(window, view):
                strange[window.name] = self._keep(window, view, self._verdict(window, view, vector, float(value)))
            if self.observe:
                self.observe(window, vector, float(value))
        for window, view in zip(windows, views, strict=True):
            if window.name in strange:
                self.state.recent.pop(window.name, None)  # what was told is no news of the hours that follow
            else:
                self._windows.remember(window, view)
                teach(self.state, window, view)
        return self._told(list(strange.values())) if self._live else []

    def _keep(self, window: Window, view: View, verdict: Verdict) -> Episode:
        """Add a strange window to its episode."""
        episode = self._episode(window)
        requests = _novel(window, view)
        room = max(NOVEL_KEPT - len(episode.requests), 0)
        episode.requests += requests[:room]
        episode.more_requests += len(requests[room:])
        if episode.strangest is None or verdict.value > episode.strangest.value:
            episode.strangest = verdict
        episode.peeked, episode.peeked_requests = None, []
        return episode

    def _complete(self, seconds: float) -> list[Score]:
        """Close the days that are over."""
        scores: list[Score] = []
        for day in sorted(self.state.episodes):
            if day + EPISODE_SECONDS + LATENESS_SECONDS > seconds:
                break
            episodes = self.state.episodes.pop(day)
            scores += self._told([episodes[name] for name in sorted(episodes)], complete=True)
        return scores

    def _episode(self, window: Window) -> Episode:
        day = window.start_seconds // EPISODE_SECONDS * EPISODE_SECONDS
        episodes = self.state.episodes.setdefault(day, {})
        episode = episodes.get(window.name)
        if episode is None:
            episode = episodes[window.name] = Episode(window.name, window.kind, window.namespace, day)
        return episode

    def _told(self, episodes: Sequence[Episode], *, complete: bool = False) -> list[Score]:
        for episode in episodes:
            episode.told += 1
        return [Score(episode, self._threshold, self.state.model, complete) for episode in episodes]

    def _is_unjudged(self, window: Window, view: View) -> bool:
        """Where everybody is a stranger, being one is not strange: they teach first, as when training begins."""
        return window.start_seconds < self.state.cold_until_seconds and view.windows < _YOUNG_WINDOWS

    def _vectors(self, windows: Sequence[Window], views: Sequence[View]) -> Vectors:
        """Shape (n_windows, n_features)."""
        rows = [
            [feature.value(window, view) for feature in self._features]
            for window, view in zip(windows, views, strict=True)
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self._features))

    def _verdict(self, window: Window, view: View, vector: Vectors, value: float) -> Verdict:
        reasons = explain(self._forest, self._features, window, view, vector)
        return Verdict(value, reasons, young=view.windows < _YOUNG_WINDOWS)


def _novel(window: Window, view: View) -> list[Request]:
    """The requests that are new still: the hour before may have taught since they came."""
    return [request for request, act in window.novel if view.has_news(act)] or [window.first]


def _may_be_strange(window: Window, view: View) -> bool:
    """Spare the features and the forest what did nothing new and was not busier than it ever was."""
    if window.novel or window.shown:
        return True
    usual = view.usual_rate
    return usual is None or log1p(window.requests) > usual[0] + _BURST_DEVIATIONS * (usual[1] + 0.5)
