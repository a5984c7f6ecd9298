"""Live: keeps the windows of all identities, scores them as they grow and when they close, and lets the usual teach.

A window is scored whenever it brings something new, so that nobody waits for its end, and once more when it closes.
What looked strange does not teach: a second run of an intrusion must be as strange as the first.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from math import log1p
from typing import Final, NamedTuple

import numpy as np

from detector.activity import Activity
from detector.baseline import View
from detector.features import load
from detector.habits import DIMENSIONS, Tokens, peer_group, tokens
from detector.match import WRITE_VERBS
from detector.model.forest import Forest, Vectors
from detector.request import from_activity
from detector.score import NOVEL_KEPT, WINDOW_SECONDS, BehaviourState, Reason, Score, Window

LATENESS_SECONDS: Final = 600
WINDOWS_MAX: Final = 100_000  # an hour, of 4 KiB and more; beyond, only identities that are known get one
_LONG_RUNNING: Final = frozenset({"exec", "attach", "portforward", "proxy", "log"})
_STARTED_KEPT: Final = 50_000  # long-running requests whose end may still come
_TIME_LENGTH: Final = len("2026-11-23T09:15:02.104900Z")
_HOURS_KEPT: Final = 1000
_YOUNG_WINDOWS: Final = 12.0  # half a day: habits of fewer hours are no habits
_REASONS_KEPT: Final = 5
_BURST_DEVIATIONS: Final = 3.0


class _Open(NamedTuple):
    """A window, and what was seen in it before, with the tokens where they are new: most requests only repeat one."""

    window: Window
    known: dict[tuple[object, ...], Tokens | None]


class Windows:
    """Sorts activities into windows of one identity and hour."""

    def __init__(self, state: BehaviourState) -> None:
        self.state = state
        self._hours: dict[str, float] = {}
        self._open: dict[float, dict[str, _Open]] = {}
        self.late = 0
        """Activities that came after their window was closed."""
        self.crowded_out = 0
        """Activities of unknown identities that got no window, for too many were open."""

    def add(self, activity: Activity) -> tuple[Window, Tokens, bool] | None:
        """Count an activity; its window and tokens if one is new to the identity, and whether it is fresh there."""
        event = activity.event
        ref = event.object_ref
        long_running = event.verb == "watch" or (ref is not None and ref.subresource in _LONG_RUNNING)
        if (long_running or event.stage == "ResponseStarted") and self._is_repeated_stage(activity):
            return None
        start = self._start(activity)
        identity = activity.identity
        opened = self._open.get(start, _NO_WINDOWS).get(identity.name)
        if opened is None:
            if start < self.state.closed_before_seconds:
                self.late += 1
                return None
            if self._is_full(identity.name, start):
                self.crowded_out += 1
                return None
            opened = self._begin(activity, start)
        window, known = opened
        status = event.response_status
        code = None if status is None else status.code
        window.count(code, write=event.verb in WRITE_VERBS)
        what = (event.request_uri,) if ref is None else (ref.resource, ref.subresource, ref.namespace, ref.name)
        key = (event.verb, what, event.user_agent, activity.addresses.source_ip, code, identity.effective_name)
        found = known.get(key, _UNSEEN)
        if found is not _UNSEEN:
            return None if found is None else (window, found, False)
        found = tokens(activity)
        fresh = window.take(found)
        known[key] = found if _is_novel(found, self.view(window)) else None
        return None if known[key] is None else (window, found, fresh)

    def view(self, window: Window) -> View:
        """What is known of a window's identity."""
        return self.state.baselines.view(window.name, window.peer_group, window.start_seconds)

    def due(self, seconds: float) -> list[Window]:
        """Take out the windows that are over, hour by hour, within an hour by name."""
        over: list[Window] = []
        for start in sorted(self.state.windows):
            if start + WINDOW_SECONDS + LATENESS_SECONDS > seconds:
                break
            windows = self.state.windows.pop(start)
            over += [windows[name] for name in sorted(windows)]
            self._open.pop(start, None)
            self.state.closed_before_seconds = start + WINDOW_SECONDS
        return over

    def _start(self, activity: Activity) -> float:
        """Start of the hour; the API server writes all times alike, so the hour is mostly known by its text."""
        text = activity.event.stage_timestamp
        hour = text[:13] if len(text) == _TIME_LENGTH and text[-1] == "Z" else ""
        start = self._hours.get(hour)
        if start is None or not hour:
            start = activity.time.timestamp() // WINDOW_SECONDS * WINDOW_SECONDS
            if len(self._hours) > _HOURS_KEPT:
                self._hours.clear()
            self._hours[hour] = start
        return start

    def _is_full(self, name: str, start: float) -> bool:
        windows = self.state.windows.get(start, {})
        return len(windows) >= WINDOWS_MAX and name not in windows and name not in self.state.baselines.identities

    def _begin(self, activity: Activity, start: float) -> _Open:
        """Open a window, or take up again one that a restart left open."""
        identity = activity.identity
        windows = self.state.windows.setdefault(start, {})
        window = windows.get(identity.name)
        if window is None:
            group = peer_group(identity, tuple(activity.event.user.groups))
            window = windows[identity.name] = Window(
                identity.name, identity.kind, identity.namespace, group, start, from_activity(activity)
            )
        opened = self._open.setdefault(start, {})[identity.name] = _Open(window, {})
        return opened

    def _is_repeated_stage(self, activity: Activity) -> bool:
        started = self.state.started
        if activity.event.stage != "ResponseStarted":
            return started.pop(activity.request_key, _ABSENT) is None
        started[activity.request_key] = None
        if len(started) > _STARTED_KEPT:
            del started[next(iter(started))]
        return False


_ABSENT: Final = object()
_NO_WINDOWS: Final[dict[str, _Open]] = {}
_UNSEEN: Final = Tokens("", "", "", "", "", "", "", "")


def teach(state: BehaviourState, window: Window) -> None:
    """Let the baselines learn a window."""
    state.baselines.teach(window.name, window.peer_group, window.seen, log1p(window.requests), window.start_seconds)


class Behaviour:
    """Scores identities' behaviour.

    Args:
        forest: what tells how strange a vector is; its columns are the features in their order.
        state: baselines and open windows.
        threshold: score from which a window is an alert.
        live: somebody waits, so a strange window is given at once; otherwise only when it is complete.
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

    def update(self, activities: Sequence[Activity]) -> list[Score]:
        """Count activities; the windows that are strange, as soon as they are."""
        scores: dict[tuple[float, str], Score] = {}
        for activity in activities:
            added = self._windows.add(activity)
            if added is None:
                continue
            window, found, fresh = added
            if len(window.novel) < NOVEL_KEPT:
                window.novel.append((from_activity(activity), found))
            if not fresh and not window.alerted:
                continue
            score = self._score([window], [self._windows.view(window)], complete=False)
            if score:
                scores[window.start_seconds, window.name] = score[0]
        return list(scores.values())

    def advance(self, now: datetime) -> list[Score]:
        """Close the windows that are over: the strange ones come back complete, the others teach."""
        over = self._windows.due(now.timestamp())
        return self._close(over)

    def finish(self) -> list[Score]:
        """Close every window: nothing more will come."""
        return self._close(self._windows.due(float("inf")))

    def _close(self, windows: Sequence[Window]) -> list[Score]:
        scores: list[Score] = []
        hour: list[Window] = []
        for window in windows:
            if hour and hour[0].start_seconds != window.start_seconds:
                scores += self._close_hour(hour)
                hour = []
            hour.append(window)
        return scores + (self._close_hour(hour) if hour else [])

    def _close_hour(self, windows: Sequence[Window]) -> list[Score]:
        views = [self._windows.view(window) for window in windows]
        pairs = [
            (window, view)
            for window, view in zip(windows, views, strict=True)
            if self.observe or _may_be_strange(window, view)
        ]
        scores = self._score([window for window, _ in pairs], [view for _, view in pairs], complete=True)
        for window in windows:
            if not window.alerted:
                teach(self.state, window)
        return scores

    def _score(self, windows: Sequence[Window], views: Sequence[View], *, complete: bool) -> list[Score]:
        if not windows:
            return []
        pairs = zip(windows, views, strict=True)
        vectors = np.array([[feature.value(window, view) for feature in self._features] for window, view in pairs])
        scores: list[Score] = []
        for index, value in enumerate(self._forest.scores(vectors)):
            window = windows[index]
            if value >= self._threshold or window.alerted:
                window.alerted = True
                window.changes += 1
                if complete:  # the hour before may have taught since what was new when it came
                    window.novel = [item for item in window.novel if _is_novel(item[1], views[index])]
                if complete or self._live:
                    scores.append(
                        self._explained(window, views[index], vectors[index], float(value), complete=complete)
                    )
            if complete and self.observe:
                self.observe(window, vectors[index], float(value))
        return scores

    def _explained(self, window: Window, view: View, vector: Vectors, value: float, *, complete: bool) -> Score:
        return Score(
            window=window,
            value=value,
            threshold=self._threshold,
            model=self.state.model,
            reasons=self._reasons(window, view, vector),
            young=view.windows < _YOUNG_WINDOWS,
            complete=complete,
        )

    def _reasons(self, window: Window, view: View, vector: Vectors) -> tuple[Reason, ...]:
        """Ablate: how much less strange the window would be if all features of one dimension were as in training."""
        dimensions = sorted({feature.dimension or feature.name for feature in self._features})
        columns = [[(feature.dimension or feature.name) == name for feature in self._features] for name in dimensions]
        ablated = np.where(np.array(columns), self._forest.scaling.centre, vector)
        raw = self._forest.raw_scores(np.vstack([vector, ablated]))
        drops = np.maximum(raw[0] - raw[1:], 0.0)
        shares = drops / max(float(drops.sum()), 1e-12)
        strongest = sorted(range(len(dimensions)), key=lambda index: (-shares[index], dimensions[index]))
        return tuple(
            _reason(dimensions[index], float(shares[index]), window, view)
            for index in strongest[:_REASONS_KEPT]
            if shares[index] > 0
        )


def _is_novel(found: Tokens, view: View) -> bool:
    return view.has_news(zip(DIMENSIONS, found, strict=True))


def _may_be_strange(window: Window, view: View) -> bool:
    """Spare the features and the forest what did nothing new and was not busier than it ever was."""
    if window.novel or window.alerted:
        return True
    usual = view.usual_rate
    return usual is None or log1p(window.requests) > usual[0] + _BURST_DEVIATIONS * (usual[1] + 0.5)


def _reason(dimension: str, share: float, window: Window, view: View) -> Reason:
    if dimension not in DIMENSIONS:
        usual = view.usual_rate
        mean = "unknown" if usual is None else f"{np.expm1(usual[0]):.0f} requests an hour"
        return Reason(dimension, f"{window.requests} requests an hour", mean, "", round(share, 4))
    seen = sorted(window.seen[dimension], key=lambda token: (-view.surprise_bits(dimension, token), token))
    new = [token for token in seen if view.is_new(dimension, token)]
    return Reason(
        dimension,
        _listed(new or seen),
        _listed(view.usual(dimension)) or "nothing known yet",
        _listed(view.peers_usual(dimension)),
        round(share, 4),
    )


def _listed(found: Sequence[str], count: int = 3) -> str:
    more = f" and {len(found) - count} more" if len(found) > count else ""
    return ", ".join(found[:count]) + more
