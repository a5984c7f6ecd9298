"""Fold: repeats of one rule by one identity within one window become one alert.

Windows lie on a fixed grid of event time, and a request falls into the window in which it was received. So the id of an
alert, and in the end its content, depend neither on the order of arrival nor on how the input was cut into batches,
partitions, workers or runs.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from detector.alert import Alert, content_id
from detector.fold_alert import Fold, from_fold
from detector.identity import IdentityKind
from detector.match import Match

LATENESS: Final = timedelta(minutes=10)
"""How long a window waits for late events: a webhook batches 30 s, a cloud's log service takes minutes."""
_IDS_KEPT: Final = 100_000  # of closed alerts, so that a straggler cannot open one again


class FolderState(msgspec.Struct):
    """All that a folder must remember over a restart."""

    open: dict[str, Fold] = {}
    closed: dict[str, None] = {}
    now: datetime | None = None


class Folder:
    """Folds matches into alerts, in event time.

    Args:
        cluster: its name, part of every alert and id.
        live: somebody waits for the alerts, so they are given when they open; a replay takes only complete ones.
        clock: tells the time of `event.created`.
        state: what an earlier run remembered.
    """

    def __init__(
        self,
        cluster: str,
        *,
        live: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        state: FolderState | None = None,
    ) -> None:
        self.cluster = cluster
        self._live = live
        self.clock = clock
        self.state = state or FolderState()
        self._recent: dict[tuple[object, ...], Fold] = {}
        """Open alerts by what makes them one, to spare repeats the making of the id."""
        self.late = 0
        """Matches that came after their alert was complete: shown already, no longer counted in it."""

    def add(self, matches: Iterable[Match]) -> list[Alert]:
        """Take matches; the alerts that open, or whose severity rises, come back at once."""
        changed: dict[str, Fold] = {}
        for match in matches:
            fold = self._fold_of(match)
            if fold is None:
                self.late += 1
                continue
            severity = fold.severity if fold.event_count else 0
            fold.add(match)
            if fold.severity > severity:
                changed[fold.id] = fold
        return [self._alert(fold, complete=False) for fold in changed.values()] if self._live else []

    def advance(self, now: datetime) -> list[Alert]:
        """Move event time on; the alerts whose windows are over come back complete."""
        state = self.state
        state.now = now if state.now is None else max(state.now, now)
        over = [fold for fold in state.open.values() if fold.window_end + LATENESS <= state.now]
        return self._close(over)

    def refresh(self) -> list[Alert]:
        """The open alerts as they now are, of which an older version was written."""
        return [
            self._alert(fold, complete=False)
            for fold in self.state.open.values()
            if fold.changes > fold.changes_written
        ]

    def finish(self) -> list[Alert]:
        """Complete every alert: nothing more will come."""
        return self._close(list(self.state.open.values()))

    def _close(self, folds: Sequence[Fold]) -> list[Alert]:
        state = self.state
        if folds:
            self._recent.clear()
        for fold in folds:
            del state.open[fold.id]
            state.closed[fold.id] = None
        while len(state.closed) > _IDS_KEPT:
            del state.closed[next(iter(state.closed))]
        ordered = sorted(folds, key=lambda fold: (fold.window_start, fold.requests[0], fold.id))
        return [self._alert(fold, complete=True) for fold in ordered]

    def _fold_of(self, match: Match) -> Fold | None:
        """The open alert that a match belongs to, opened if need be; None if that alert is complete already."""
        rule, activity = match.rule, match.activity
        identity = activity.identity
        window = int(activity.received_time.timestamp() // rule.fold_seconds)
        # Nobody is accountable for these requests but whoever sits behind an address.
        unnamed = identity.kind in (IdentityKind.ANONYMOUS, IdentityKind.UNAUTHENTICATED)
        address = activity.addresses.source_ip if unnamed else ""
        key = (rule.id, window, identity.name, identity.effective_name, address, match.group)
        fold = self._recent.get(key)
        if fold is None:
            fold = self._find_or_open(match, window, address)
            if fold is not None:
                self._recent[key] = fold
        return fold

    def _find_or_open(self, match: Match, window: int, address: str) -> Fold | None:
        rule, identity = match.rule, match.activity.identity
        start = datetime.fromtimestamp(window * rule.fold_seconds, UTC)
        parts = [
            self.cluster,
            rule.id,
            identity.name,
            identity.effective_name,
            address,
            *match.group,
            start.isoformat(),
        ]
        fold_id = content_id(parts)
        fold = self.state.open.get(fold_id)
        if fold is None and fold_id not in self.state.closed:
            fold = self.state.open[fold_id] = Fold(
                id=fold_id,
                rule=rule,
                identity_kind=identity.kind,
                user_name=identity.name,
                service_namespace=identity.namespace,
                effective_name=identity.effective_name,
                group=match.group,
                window_start=start,
                window_end=start + timedelta(seconds=rule.fold_seconds),
                last_seen=match.activity.time,
            )
        return fold

    def _alert(self, fold: Fold, *, complete: bool) -> Alert:
        return from_fold(fold, self.cluster, self.clock(), complete=complete)
