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
from detector.fold_alert import Contribution, Fold, from_fold
from detector.identity import IdentityKind
from detector.match import Match
from detector.score import Weight

_NONE: Final[dict[str, Fold]] = {}
_IDS_KEPT: Final = 100_000  # of closed alerts, so that a straggler cannot open one again


_UNNAMED: Final = (IdentityKind.ANONYMOUS, IdentityKind.UNAUTHENTICATED)
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


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
        self._by_key: dict[tuple[str, str], dict[str, Fold]] = {}
        """Open alerts by identity and what weights know them by."""
        for fold in self.state.open.values():
            self._file(fold)
        self._none_over_before = _NEVER if not self.state.open else _EVER
        """Event time until which no window ends: most batches end none, and need not look at every open alert."""
        self.late = 0
        """Matches that came after their alert was complete: shown already, no longer counted in it."""

    def add(self, matches: Iterable[Match], weights: Iterable[Weight] = ()) -> list[Alert]:
        """Take matches, and how usual they are; the alerts that open, or whose severity rises, come back at once."""
        before: dict[str, tuple[Fold, int]] = {}
        contribution: Contribution | None = None
        for match in matches:
            if contribution is None or match.activity is not contribution.activity:
                contribution = Contribution(match.activity)
            fold = self._fold_of(match, contribution)
            if fold is None:
                self.late += 1
                continue
            if fold.degraded or not fold.event_count:  # else its severity cannot rise: spare comparing it
                before.setdefault(fold.id, (fold, fold.severity if fold.event_count else 0))
            fold.add(contribution, degraded=match.degraded)
        for weight in weights:
            for fold in self._by_key.get((weight.name, weight.alert_key), _NONE).values():
                before.setdefault(fold.id, (fold, fold.severity))
                fold.weigh(weight)
        if not self._live:
            return []
        return [self._alert(fold, complete=False) for fold, severity in before.values() if fold.severity > severity]

    def advance(self, now: datetime) -> list[Alert]:
        """Move event time on; the alerts whose windows are over come back complete."""
        state = self.state
        state.now = now if state.now is None else max(state.now, now)
        if state.now < self._none_over_before:
            return []
        return self._close([fold for fold in state.open.values() if fold.due <= state.now])

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
        for fold in folds:
            del state.open[fold.id]
            alike = self._by_key.get(fold.key, {})
            alike.pop(fold.id, None)
            if not alike:
                self._by_key.pop(fold.key, None)
            state.closed[fold.id] = None
        if folds:
            self._recent = {key: fold for key, fold in self._recent.items() if fold.id in state.open}
        self._none_over_before = min((fold.due for fold in state.open.values()), default=_NEVER)
        while len(state.closed) > _IDS_KEPT:
            del state.closed[next(iter(state.closed))]
        ordered = sorted(folds, key=lambda fold: (fold.window_start, fold.requests[0], fold.id))
        return [self._alert(fold, complete=True) for fold in ordered]

    def _file(self, fold: Fold) -> None:
        """Let weights find an alert; one of several identities has no habits to be weighed by."""
        if not fold.rule.across_identities:
            self._by_key.setdefault(fold.key, {})[fold.id] = fold

    def _fold_of(self, match: Match, contribution: Contribution) -> Fold | None:
        """The open alert that a match belongs to, opened if need be; None if that alert is complete already."""
        rule = match.rule
        seconds = contribution.received_seconds if match.fold_time is None else match.fold_time.timestamp()
        window = int(seconds // rule.fold_seconds)
        whose = _whose(match)
        key = (rule.id, window, whose, match.group)
        fold = self._recent.get(key)
        if fold is None:
            fold = self._find_or_open(match, window, whose)
            if fold is not None:
                self._recent[key] = fold
        return fold

    def _find_or_open(self, match: Match, window: int, whose: tuple[str, ...]) -> Fold | None:
        rule, identity = match.rule, match.activity.identity
        start = datetime.fromtimestamp(window * rule.fold_seconds, UTC)
        fold_id = content_id([self.cluster, rule.id, *whose, *match.group, start.isoformat()])
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
            self._file(fold)
            self._none_over_before = min(self._none_over_before, fold.due)
        return fold

    def _alert(self, fold: Fold, *, complete: bool) -> Alert:
        return from_fold(fold, self.cluster, self.clock(), complete=complete)


def _whose(match: Match) -> tuple[str, ...]:
    """Whose requests one alert of a rule holds."""
    if match.rule.across_identities:
        return ()
    identity = match.activity.identity
    # Nobody is accountable for these requests but whoever sits behind an address.
    address = match.activity.addresses.source_ip if identity.kind in _UNNAMED else ""
    # A chain stays one, whomever its requests impersonate.
    effective_name = "" if match.rule.kind == "chain" else identity.effective_name
    return (identity.name, effective_name, address)
