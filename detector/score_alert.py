"""Score to alert: the document of a strange behaviour."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from detector.alert import (
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
    content_id,
)
from detector.attack import TACTICS, TECHNIQUES
from detector.match import SEVERITY, Level
from detector.portrait import portray
from detector.printable import printable
from detector.request import Request, masked, to_evidence
from detector.score import Score

RULE_ID: Final = "6f0f3a0e-5c0b-4d2c-9f6a-2b1f6a7c9d10"
_RULE_NAME: Final = "Unusual Behaviour of an Identity"
_DESCRIPTION: Final = (
    "What an identity did in an hour is far from its own habits and those of its peers, as learned from the past. No "
    "single request need be wrong. A new duty or a change of team looks the same: ask, and look at the reasons."
)
_HIGH_SCORE: Final = 1.0 / (1.0 + 0.02)  # stranger than one benign window in fifty days
_TECHNIQUE: Final = "T1078"


def from_score(score: Score, cluster: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Alert:
    """Make the alert of a strange window; its id depends on the identity and the window's start only."""
    window = score.window
    start = datetime.fromtimestamp(window.start_seconds, UTC)
    alert_id = content_id([cluster, RULE_ID, window.name, start.isoformat()])
    severity = SEVERITY[Level.HIGH] if score.value >= _HIGH_SCORE and not score.young else SEVERITY[Level.MEDIUM]
    requests = sorted(request for request, _ in window.novel) or [window.first]
    version = (COMPLETE_VERSION if score.complete else 0) + window.changes
    document = _document(score, requests, cluster, (alert_id, severity, clock()))
    return Alert(document, start, version, score.complete)


def _document(score: Score, requests: list[Request], cluster: str, made: tuple[str, int, datetime]) -> Document:
    alert_id, severity, created = made
    window = score.window
    kept = [masked(request) for request in requests[:EVIDENCE_KEPT]]
    first, last = kept[0], requests[-1]
    addresses = {address for request in requests for address in (request.source_ip, request.client_ip) if address}
    return Document(
        timestamp=last.time,
        message=_message(score, requests),
        event=EventPart(
            type=("info",),
            action="unusual-behaviour",
            outcome="unknown",
            severity=severity,
            risk_score=round(100 * score.value, 1),
            id=alert_id,
            created=created,
            ingested=created,
        ),
        rule=RulePart(id=RULE_ID, name=_RULE_NAME, version=score.model, ruleset="behaviour", description=_DESCRIPTION),
        threat=ThreatPart(
            framework=ATTACK_FRAMEWORK,
            tactic=Named(id=(TACTICS["stealth"][0],), name=(TACTICS["stealth"][1],)),
            technique=Named(id=(_TECHNIQUE,), name=(TECHNIQUES[_TECHNIQUE],)),
        ),
        **portray(first, window.name, "", cluster, addresses),
        detector=DetectorPart(
            kind="behaviour",
            audit_ids=tuple(dict.fromkeys(request.audit_id for request in requests if request.audit_id))[
                :AUDIT_IDS_KEPT
            ],
            event_count=len(requests),
            first_seen=first.time,
            last_seen=last.time,
            identity=IdentityPart(kind=window.kind, namespace=window.namespace or None),
            evidence=tuple(map(to_evidence, kept)),
            degraded=False,
            score=round(score.value, 6),
            threshold=round(score.threshold, 6),
            model=score.model,
            young=score.young,
            reasons=tuple(
                ReasonPart(
                    feature=reason.feature,
                    value=reason.value,
                    usual=reason.usual,
                    peers=reason.peers,
                    contribution=reason.contribution,
                )
                for reason in score.reasons
            ),
        ),
    )


def _message(score: Score, requests: list[Request]) -> str:
    window = score.window
    text = f"{window.name[:200]} made {len(requests)} requests unlike its habits"
    if score.reasons:
        reason = score.reasons[0]
        text += f": {reason.feature} {reason.value}, usual are {reason.usual}"
    text += f", from {requests[0].source_ip or 'an unknown address'}"
    if score.young:
        text += " (little is known of it yet)"
    return printable(text)
