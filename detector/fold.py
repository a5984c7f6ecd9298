"""Fold: repeats of one rule by one identity within one window become one alert.

Windows lie on a fixed grid of event time, and a request falls into the window in which it was received. So the id of an
alert, and in the end its content, depend neither on the order of arrival nor on how the input was cut into batches,
partitions, workers or runs.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from detector.alert import (
    ADDRESSES_KEPT,
    ATTACK_FRAMEWORK,
    AUDIT_IDS_KEPT,
    COMPLETE_VERSION,
    EVIDENCE_KEPT,
    Alert,
    DetectorPart,
    Document,
    EventPart,
    IdentityPart,
    Named,
    RulePart,
    ThreatPart,
    content_id,
)
from detector.attack import TACTICS, TECHNIQUES
from detector.identity import Identity, IdentityKind
from detector.match import LATENESS, SEVERITY, Level, Match, Rule
from detector.portrait import portray, resource_of
from detector.printable import printable
from detector.request import TEXT_MAX, Request, from_activity, masked, shown, to_evidence

_REQUESTS_KEPT: Final = 20_000  # digests of 16 bytes an alert; a request beyond them is counted without looking twice
_IDS_KEPT: Final = 100_000  # of closed alerts, so that a straggler cannot open one again
_EVENT_TYPES: Final = {
    "create": "creation",
    "update": "change",
    "patch": "change",
    "delete": "deletion",
    "deletecollection": "deletion",
}


class Fold(msgspec.Struct):
    """An alert while its window is open."""

    id: str
    rule: Rule
    identity_kind: IdentityKind
    user_name: str
    service_namespace: str
    effective_name: str
    group: tuple[str, ...]
    window_start: datetime
    window_end: datetime
    last_seen: datetime
    audit_ids: list[tuple[datetime, str]] = []
    seen: set[bytes] = set()
    requests: list[Request] = []
    addresses: set[str] = set()
    event_count: int = 0
    succeeded: bool = False
    failed: bool = False
    degraded: bool = True
    changes: int = 0
    changes_written: int = 0

    @property
    def severity(self) -> int:
        """21 to 99; an alert that rests on hidden bodies alone is low."""
        return SEVERITY[Level.LOW] if self.degraded else SEVERITY[self.rule.level]

    def add(self, match: Match) -> None:
        """Count a match; a later stage or a second delivery of a known request adds only its time."""
        activity = match.activity
        self.changes += 1
        self.last_seen = max(self.last_seen, activity.time)
        if not match.degraded:
            self.degraded = False
        key = activity.request_key
        if key in self.seen:
            return
        if len(self.seen) < _REQUESTS_KEPT:
            self.seen.add(key)
        self.event_count += 1
        status = activity.event.response_status
        if status is not None and status.code is not None:
            self.succeeded = self.succeeded or status.code < 400
            self.failed = self.failed or status.code >= 400
        time = activity.received_time  # every stage of a request has it: which of them comes first must not matter
        if len(self.requests) < EVIDENCE_KEPT or time < self.requests[-1].time:
            request = from_activity(activity)
            insort(self.requests, request)
            del self.requests[EVIDENCE_KEPT:]
            if self.requests[0] is request:
                self._name(activity.identity)
        audit_id = activity.event.audit_id[:256]
        if audit_id and (len(self.audit_ids) < AUDIT_IDS_KEPT or (time, audit_id) < self.audit_ids[-1]):
            insort(self.audit_ids, (time, audit_id))
            del self.audit_ids[AUDIT_IDS_KEPT:]
        if len(self.addresses) < ADDRESSES_KEPT:
            self.addresses.update(filter(None, (activity.addresses.source_ip, activity.addresses.client_ip)))

    def _name(self, identity: Identity) -> None:
        """Let whoever made the first request stand for the alert: in a chain across identities there are several."""
        self.identity_kind = identity.kind
        self.user_name = identity.name
        self.service_namespace = identity.namespace
        self.effective_name = identity.effective_name


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
        rule = match.rule
        window = int((match.fold_time or match.activity.received_time).timestamp() // rule.fold_seconds)
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
        return fold

    def _alert(self, fold: Fold, *, complete: bool) -> Alert:
        fold.changes_written = fold.changes
        version = COMPLETE_VERSION + fold.event_count if complete else (fold.severity << 40) + fold.changes
        return Alert(_document(fold, self.cluster, self.clock()), fold.window_start, version, complete)


def _whose(match: Match) -> tuple[str, ...]:
    """Whose requests one alert of a rule holds."""
    identity = match.activity.identity
    # Nobody is accountable for these requests but whoever sits behind an address.
    unnamed = identity.kind in (IdentityKind.ANONYMOUS, IdentityKind.UNAUTHENTICATED)
    address = match.activity.addresses.source_ip if unnamed else ""
    if match.rule.across_identities:
        return ()
    # A chain stays one, whomever its requests impersonate.
    effective_name = "" if match.rule.kind == "chain" else identity.effective_name
    return (identity.name, effective_name, address)


def _document(fold: Fold, cluster: str, created: datetime) -> Document:
    requests = [masked(request) for request in fold.requests]
    first = requests[0]
    resource = resource_of(first)
    return Document(
        timestamp=fold.last_seen,
        message=_message(fold, first, resource),
        event=EventPart(
            type=(_EVENT_TYPES.get(first.verb, "access"),) if fold.succeeded or not fold.failed else ("denied",),
            action=f"{first.verb or 'request'}-{resource}"[:TEXT_MAX],
            outcome=_outcome(fold),
            severity=fold.severity,
            risk_score=float(fold.severity),
            id=fold.id,
            reference=fold.rule.reference or None,
            created=created,
            ingested=created,
        ),
        rule=RulePart(
            id=fold.rule.id,
            name=fold.rule.name,
            version=fold.rule.version,
            ruleset=fold.rule.ruleset,
            description=fold.rule.description or None,
            reference=fold.rule.reference or None,
        ),
        threat=_threat(fold.rule),
        **portray(first, fold.user_name, fold.effective_name, cluster, fold.addresses),
        detector=DetectorPart(
            kind=fold.rule.kind,
            audit_ids=tuple(dict.fromkeys(audit_id for _, audit_id in fold.audit_ids)),
            event_count=fold.event_count,
            first_seen=first.time,
            last_seen=fold.last_seen,
            identity=IdentityPart(kind=fold.identity_kind, namespace=fold.service_namespace or None),
            group=tuple(shown(value) for value in fold.group),
            evidence=tuple(to_evidence(request) for request in requests),
            degraded=fold.degraded,
        ),
    )


def _outcome(fold: Fold) -> Literal["success", "failure", "unknown"]:
    if fold.succeeded:
        return "success"
    return "failure" if fold.failed else "unknown"


def _threat(rule: Rule) -> ThreatPart | None:
    if not rule.tactics and not rule.techniques:
        return None
    tactics = [TACTICS[tactic] for tactic in rule.tactics if tactic in TACTICS]
    return ThreatPart(
        framework=ATTACK_FRAMEWORK,
        tactic=Named(id=tuple(tactic for tactic, _ in tactics), name=tuple(name for _, name in tactics)),
        technique=Named(
            id=rule.techniques, name=tuple(TECHNIQUES[item] for item in rule.techniques if item in TECHNIQUES)
        ),
    )


def _message(fold: Fold, first: Request, resource: str) -> str:
    values = {
        "user": fold.user_name,
        "effective": fold.effective_name or "nobody",
        "verb": first.verb,
        "resource": first.resource,
        "subresource": first.subresource,
        "namespace": first.namespace or "the cluster",
        "name": first.name or "(unnamed)",
        "source": first.source_ip or "an unknown address",
        "client": first.client_ip or "an unknown address",
        "count": str(fold.event_count),
        "command": first.command,
    }
    if fold.rule.message:
        text = fold.rule.message.format_map({key: value[:200] for key, value in values.items()})
    else:
        text = (
            f"{fold.user_name[:200]}: {fold.rule.name} ({first.verb} {resource} {first.name}, from {values['source']})"
        )
    if fold.degraded:
        text += " (unproven: the audit level or a truncation hid the request's body)"
    return printable(text)
