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
_HIGH_SCORE: Final = 1.0 / (1.0 + 0.02)  # stranger than one benign alert in fifty days
_TECHNIQUE: Final = "T1078"


def from_score(score: Score, cluster: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Alert:
    """Make the alert of an episode; its id depends on the identity and the day only."""
    episode = score.episode
    start = datetime.fromtimestamp(episode.start_seconds, UTC)
    alert_id = content_id([cluster, RULE_ID, episode.name, start.isoformat()])
    version = (COMPLETE_VERSION if score.complete else 0) + episode.told
    return Alert(_document(score, cluster, alert_id, clock()), start, version, score.complete)


def _level(score: Score) -> Level:
    if not score.confirmed:
        return Level.LOW
    return Level.HIGH if score.verdict.value >= _HIGH_SCORE and not score.verdict.young else Level.MEDIUM


def _document(score: Score, cluster: str, alert_id: str, created: datetime) -> Document:
    episode, verdict, requests = score.episode, score.verdict, score.requests
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
            severity=SEVERITY[_level(score)],
            risk_score=round(100 * verdict.value, 1),
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
        **portray(first, episode.name, "", cluster, addresses),
        detector=DetectorPart(
            kind="behaviour",
            audit_ids=tuple(dict.fromkeys(request.audit_id for request in requests if request.audit_id))[
                :AUDIT_IDS_KEPT
            ],
            event_count=len(requests) + episode.more_requests,
            first_seen=first.time,
            last_seen=last.time,
            identity=IdentityPart(kind=episode.kind, namespace=episode.namespace or None),
            evidence=tuple(map(to_evidence, kept)),
            degraded=False,
            score=round(verdict.value, 6),
            threshold=round(score.threshold, 6),
            model=score.model,
            young=verdict.young,
            reasons=tuple(
                ReasonPart(
                    feature=reason.feature,
                    value=reason.value,
                    usual=reason.usual,
                    peers=reason.peers,
                    contribution=reason.contribution,
                )
                for reason in verdict.reasons
            ),
        ),
    )


def _message(score: Score, requests: list[Request]) -> str:
    episode, verdict = score.episode, score.verdict
    text = f"{episode.name[:200]} made {len(requests) + episode.more_requests} requests unlike its habits"
    if verdict.reasons:
        reason = verdict.reasons[0]
        text += f": {reason.feature} {reason.value}, usual are {reason.usual}"
    text += f", from {requests[0].source_ip or 'an unknown address'}"
    if verdict.young:
        text += " (little is known of it yet)"
    if not score.confirmed:
        text += " (no longer strange when the hour was over)"
    return printable(text)
