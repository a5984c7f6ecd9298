"""Fold to alert: what is remembered of an alert while its window is open, and its document."""

from bisect import insort
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Final, Literal

import msgspec

from detector.activity import Activity
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
    ReasonPart,
    RulePart,
    ThreatPart,
)
from detector.attack import TACTICS, TECHNIQUES
from detector.identity import Identity, IdentityKind
from detector.match import LATENESS, SEVERITY, Level, Rule
from detector.portrait import portray, resource_of
from detector.printable import printable
from detector.request import TEXT_MAX, Request, from_activity, masked, shown, to_evidence
from detector.score import WINDOW_SECONDS, Weight, alert_key

_REQUESTS_KEPT: Final = 20_000  # digests of 16 bytes an alert; a request beyond them is counted without looking twice
_WEIGHED: Final = {
    -2: {Level.MEDIUM: Level.LOW, Level.HIGH: Level.LOW},
    -1: {Level.MEDIUM: Level.LOW, Level.HIGH: Level.MEDIUM},
    0: {},
    1: {Level.MEDIUM: Level.HIGH, Level.HIGH: Level.CRITICAL},
}
"""What a level becomes for what is usual, and for what is unheard of; what is critical by rule stays so.

What is low by rule stays so too: half of it is unheard of, and several such signals make a behaviour alert together.
"""
_PARTS_KEPT: Final = 4096  # parts of documents that many alerts share: validating them is half of what one costs
_EVENT_TYPES: Final = {
    "create": "creation",
    "update": "change",
    "patch": "change",
    "delete": "deletion",
    "deletecollection": "deletion",
}


class Contribution:
    """What an activity adds to an alert: worked out once for all the alerts that it belongs to."""

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self.key = activity.request_key
        self.time = activity.time
        # Every stage of a request has it: which of them comes first must not matter.
        self.received_time = activity.received_time
        self.received_seconds = self.received_time.timestamp()
        self.audit_id = (self.received_time, activity.event.audit_id[:256])
        status = activity.event.response_status
        code = None if status is None else status.code
        self.succeeded = code is not None and code < 400
        self.failed = code is not None and code >= 400
        self.addresses = set(filter(None, (activity.addresses.source_ip, activity.addresses.client_ip)))

    @cached_property
    def request(self) -> Request:
        """The request as an alert remembers it; few alerts do, for they keep their first ones only."""
        return from_activity(self.activity)


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
    weights: dict[float, Weight] = {}
    """How usual it is for the identity, by the hour."""

    @property
    def key(self) -> tuple[str, str]:
        """What weights know it by."""
        return self.user_name, alert_key(self.rule.id, self.group)

    @property
    def due(self) -> datetime:
        """When it is complete: late events have come, and the hour that it ends in was weighed."""
        seconds = -(-self.window_end.timestamp() // WINDOW_SECONDS) * WINDOW_SECONDS
        return datetime.fromtimestamp(seconds, UTC) + LATENESS

    @property
    def severity(self) -> int:
        """21 to 99; an alert that rests on hidden bodies alone is low, and what is usual is one level lower."""
        if self.degraded:
            return SEVERITY[Level.LOW]
        # One unheard-of hour makes the whole alert so; every hour of it must have been usual to excuse it.
        shift = max((weight.shift for weight in self.weights.values()), default=0)
        return SEVERITY[_WEIGHED[shift].get(self.rule.level, self.rule.level)]

    def weigh(self, weight: Weight) -> None:
        """Take how usual an hour of it was; the last word on an hour counts."""
        start = datetime.fromtimestamp(weight.start_seconds, UTC)
        if start < self.window_end and self.window_start < start + timedelta(seconds=WINDOW_SECONDS):
            self.weights[weight.start_seconds] = weight
            self.changes += 1

    def add(self, contribution: Contribution, *, degraded: bool) -> None:
        """Count a match; a later stage or a second delivery of a known request adds only its time."""
        self.changes += 1
        self.last_seen = max(self.last_seen, contribution.time)
        if not degraded:
            self.degraded = False
        key = contribution.key
        if key in self.seen:
            return
        if len(self.seen) < _REQUESTS_KEPT:
            self.seen.add(key)
        self.event_count += 1
        self.succeeded = self.succeeded or contribution.succeeded
        self.failed = self.failed or contribution.failed
        if len(self.requests) < EVIDENCE_KEPT or contribution.received_time < self.requests[-1].time:
            insort(self.requests, contribution.request)
            del self.requests[EVIDENCE_KEPT:]
            if self.rule.across_identities and self.requests[0] is contribution.request:
                self._name(contribution.activity.identity)
        audit_id, kept = contribution.audit_id, self.audit_ids
        if audit_id[1] and (not kept or kept[-1] <= audit_id) and len(kept) < AUDIT_IDS_KEPT:
            kept.append(audit_id)  # in order of time, as most come: no place need be searched
        elif audit_id[1] and (len(kept) < AUDIT_IDS_KEPT or audit_id < kept[-1]):
            insort(kept, audit_id)
            del kept[AUDIT_IDS_KEPT:]
        if len(self.addresses) < ADDRESSES_KEPT:
            self.addresses.update(contribution.addresses)

    def _name(self, identity: Identity) -> None:
        """Let whoever made the first request stand for the alert of several identities."""
        self.identity_kind = identity.kind
        self.user_name = identity.name
        self.service_namespace = identity.namespace
        self.effective_name = identity.effective_name


def from_fold(fold: Fold, cluster: str, created: datetime, *, complete: bool) -> Alert:
    """Make the alert of a fold as it now is."""
    fold.changes_written = fold.changes
    version = COMPLETE_VERSION + fold.event_count if complete else (fold.severity << 40) + fold.changes
    return Alert(_document(fold, cluster, created), fold.window_start, version, complete)


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
        rule=_rule_part(fold.rule),
        threat=_threat(fold.rule.tactics, fold.rule.techniques),
        **portray(first, fold.user_name, fold.effective_name, cluster, fold.addresses),
        detector=DetectorPart(
            kind=fold.rule.kind,
            audit_ids=tuple(dict.fromkeys(audit_id for _, audit_id in fold.audit_ids)),
            event_count=fold.event_count,
            first_seen=first.time,
            last_seen=fold.last_seen,
            identity=_identity_part(fold.identity_kind, fold.service_namespace),
            group=tuple(shown(value) for value in fold.group),
            evidence=tuple(to_evidence(request) for request in requests),
            degraded=fold.degraded,
            reasons=_reasons(fold),
        ),
    )


def _reasons(fold: Fold) -> tuple[ReasonPart, ...] | None:
    """Why its level is another than its rule's, by the hour that decided it."""
    if not fold.weights or fold.degraded:
        return None
    decisive = max(fold.weights.values(), key=lambda weight: (weight.shift, -weight.start_seconds))
    return (decisive.reason.to_part(),) if decisive.shift else None


def _outcome(fold: Fold) -> Literal["success", "failure", "unknown"]:
    if fold.succeeded:
        return "success"
    return "failure" if fold.failed else "unknown"


@lru_cache(maxsize=_PARTS_KEPT)
def _rule_part(rule: Rule) -> RulePart:
    return RulePart(
        id=rule.id,
        name=rule.name,
        version=rule.version,
        ruleset=rule.ruleset,
        description=rule.description or None,
        reference=rule.reference or None,
    )


@lru_cache(maxsize=_PARTS_KEPT)
def _identity_part(kind: IdentityKind, namespace: str) -> IdentityPart:
    return IdentityPart(kind=kind, namespace=namespace or None)


@lru_cache(maxsize=_PARTS_KEPT)
def _threat(tags: tuple[str, ...], techniques: tuple[str, ...]) -> ThreatPart | None:
    if not tags and not techniques:
        return None
    tactics = [TACTICS[tag] for tag in tags if tag in TACTICS]
    return ThreatPart(
        framework=ATTACK_FRAMEWORK,
        tactic=Named(id=tuple(tactic for tactic, _ in tactics), name=tuple(name for _, name in tactics)),
        technique=Named(id=techniques, name=tuple(TECHNIQUES[item] for item in techniques if item in TECHNIQUES)),
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
