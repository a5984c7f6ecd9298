"""Windows: sorts activities into one window for each identity and hour, and knows what was usual before each."""

from collections.abc import Sequence
from itertools import groupby
from math import log1p
from operator import attrgetter
from typing import Final, NamedTuple

from detector.activity import Activity
from detector.baseline import View
from detector.habits import SIGNAL, Act, Tokens, peer_group, tokens
from detector.match import LATENESS, SEVERITY, WRITE_VERBS, Level, Match
from detector.request import from_activity
from detector.score import EPISODE_SECONDS, NOVEL_KEPT, WINDOW_SECONDS, BehaviourState, Window, alert_key

LATENESS_SECONDS: Final = LATENESS.total_seconds()
WINDOWS_MAX: Final = 100_000  # an hour, of 4 KiB and more; beyond, only identities that are known get one
_LONG_RUNNING: Final = frozenset({"exec", "attach", "portforward", "proxy", "log"})
_STARTED_KEPT: Final = 50_000  # long-running requests whose end may still come
_TIME_LENGTH: Final = len("2026-11-23T09:15:02.104900Z")
_HOURS_KEPT: Final = 1000
_ACTS_KEPT: Final = 100  # of one rule in one window; what comes after them is more of the same
_NEWS_KEPT: Final = 200  # tokens of one window and dimension that the day remembers: fewer than an intruder can make up


class _Open(NamedTuple):
    """A window, and what was seen in it before, with the tokens where they are new: most requests only repeat one."""

    window: Window
    known: dict[tuple[object, ...], Act | None]


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

    def add(self, activity: Activity) -> Window | None:
        """Count an activity; its window if it has a token that is new to the identity, and fresh in the window."""
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
        window.count(code, event.stage_timestamp[14:16], write=event.verb in WRITE_VERBS)
        what = (event.request_uri,) if ref is None else (ref.resource, ref.subresource, ref.namespace, ref.name)
        key = (event.verb, what, event.user_agent, activity.addresses.source_ip, code, identity.effective_name)
        act = known.get(key, _UNKNOWN)
        fresh = False
        if act is _UNKNOWN:
            found = tokens(activity)
            fresh = window.take(found)
            act = known[key] = pairs(found) if self.view(window).has_news(pairs(found)) else None
        if act is not None and len(window.novel) < NOVEL_KEPT:
            window.novel.append((from_activity(activity), act))
        return window if fresh and act else None

    def note(self, matches: Sequence[Match]) -> list[Window]:
        """Take the rules that matched; the windows in which one is fresh, and new to the identity."""
        rules = self.state.baselines.rules
        fresh: list[Window] = []
        known = [match for match in matches if match.rule.name in rules]
        for activity, of_one in groupby(known, key=attrgetter("activity")):
            window = self._window(activity)
            if window is None:
                continue
            found = tokens(activity)
            for match in of_one:
                name = match.rule.name
                if name not in window.seen[SIGNAL] and self.view(window).is_new(SIGNAL, name):
                    window.novel.append((from_activity(activity), ((SIGNAL, name),)))
                    fresh.append(window)
                _note(window, match, found)
        return fresh

    def of(self, match: Match) -> Window | None:
        """The window that a match lies in, if its rule is known and the window open."""
        return self._window(match.activity) if match.rule.name in self.state.baselines.rules else None

    def _window(self, activity: Activity) -> Window | None:
        return self.state.windows.get(self._start(activity), {}).get(activity.identity.name)

    def view(self, window: Window) -> View:
        """What is known of a window's identity."""
        recent = _recent(self.state.recent.get(window.name), window.start_seconds)
        return self.state.baselines.view(window.name, window.peer_group, window.start_seconds, recent)

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

    def remember(self, window: Window, view: View) -> None:
        """Keep what was new in a window for the rest of the day; what is older than a day is forgotten."""
        if not window.novel and window.name not in self.state.recent:
            return
        hours = self.state.recent.setdefault(window.name, {})
        for start in [start for start in hours if start <= window.start_seconds - EPISODE_SECONDS]:
            del hours[start]
        news = {
            dimension: dict(view.news(dimension, seen).new_tokens[:_NEWS_KEPT])
            for dimension, seen in window.seen.items()
            if window.novel
        }
        found = {dimension: bits for dimension, bits in news.items() if bits}
        if found:
            hours[window.start_seconds] = found
        if not hours:
            del self.state.recent[window.name]

    def forget(self, seconds: float) -> None:
        """Drop the news of identities that have been silent for a day."""
        recent = self.state.recent
        for name in [name for name, hours in recent.items() if max(hours) <= seconds - EPISODE_SECONDS]:
            del recent[name]

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
_UNKNOWN: Final = ()


def pairs(found: Tokens) -> Act:
    """Tokens, each with its dimension."""
    return tuple(zip(Tokens._fields, found, strict=True))


def teach(state: BehaviourState, window: Window, view: View) -> None:
    """Let the baselines learn a window, but for what is new and a rule objected to."""
    rates = log1p(window.requests), log1p(max(window.minutes.values(), default=0))
    seen = window.seen
    if window.guarded:
        seen = {
            dimension: {token for token in found if not _is_guarded(window, view, dimension, token)}
            for dimension, found in seen.items()
        }
    state.baselines.teach(window.name, window.peer_group, seen, rates, window.start_seconds)


def _is_guarded(window: Window, view: View, dimension: str, token: str) -> bool:
    return token in window.guarded.get(dimension, ()) and view.is_new(dimension, token)


def _note(window: Window, match: Match, found: Tokens) -> None:
    window.seen[SIGNAL].add(match.rule.name)
    acts = window.matched.setdefault(alert_key(match.rule.id, match.group), {}).setdefault(match.rule.name, [])
    if found not in acts and len(acts) < _ACTS_KEPT:
        acts.append(found)
    if not match.degraded and SEVERITY[match.rule.level] >= SEVERITY[Level.MEDIUM]:
        for dimension, token in (*pairs(found), (SIGNAL, match.rule.name)):
            window.guarded.setdefault(dimension, set()).add(token)


def _recent(
    hours: dict[float, dict[str, dict[str, float]]] | None, start_seconds: float
) -> dict[str, dict[str, float]]:
    """The news of the 24 hours before a window, each token with the surprise that it was at first."""
    merged: dict[str, dict[str, float]] = {}
    for start in sorted(hours or {}):
        if hours and start_seconds - EPISODE_SECONDS < start < start_seconds:
            for dimension, bits in hours[start].items():
                known = merged.setdefault(dimension, {})
                for token, surprise in bits.items():
                    known.setdefault(token, surprise)
    return merged
