"""Sample alerts, and the documents that are read back."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from detector.alert import (
    AddressPart,
    Alert,
    DetectorPart,
    Document,
    EventPart,
    Evidence,
    IdentityPart,
    Named,
    OrchestratorPart,
    RelatedPart,
    ResourcePart,
    RulePart,
    ThreatPart,
    UserPart,
)
from detector.identity import IdentityKind

OCTOBER = datetime(2026, 10, 5, 10, 0, tzinfo=UTC)


def alert(
    number: int = 0,
    *,
    alert_id: str | None = None,
    severity: int = 47,
    complete: bool = False,
    window_start: datetime = OCTOBER,
    event_count: int = 1,
    user: str = "alice",
    message: str = "alice read a Secret",
) -> Alert:
    """Build one version of an alert; `number` tells alerts apart. Its version grows with all that can grow."""
    time = datetime(2026, 10, 5, 10, 7, 31, 123456, tzinfo=UTC)
    document = Document.model_validate(
        {
            "@timestamp": time,
            "message": message,
            "event": EventPart(
                type=("access",),
                action="get",
                outcome="success",
                severity=severity,
                risk_score=float(severity),
                id=alert_id or f"{number:040x}",
                created=time,
                ingested=time,
            ),
            "rule": RulePart(id="r-1", name="Secret read", version="abc", ruleset="sigma"),
            "threat": ThreatPart(
                framework="MITRE ATT&CK",
                tactic=Named(id=("TA0006",), name=("Credential Access",)),
                technique=Named(id=("T1552.007",), name=("Container API",)),
            ),
            "user": UserPart(name=user, roles=("system:authenticated",)),
            "source": AddressPart(ip="203.0.113.9"),
            "orchestrator": OrchestratorPart(namespace="shop", resource=ResourcePart(type="secrets", name="db")),
            "related": RelatedPart(user=(user,), ip=("203.0.113.9", "2001:db8::1")),
            "detector": DetectorPart(
                kind="rule",
                audit_ids=("a-1", "a-2"),
                event_count=event_count,
                first_seen=time,
                last_seen=time,
                identity=IdentityPart(kind=IdentityKind.USER),
                evidence=(
                    Evidence(
                        time=time,
                        verb="get",
                        resource="secrets",
                        subresource="",
                        namespace="shop",
                        name="db",
                        code=200,
                        source="203.0.113.9",
                        user_agent="kubectl/v1.35.0",
                    ),
                ),
                degraded=False,
            ),
        }
    )
    version = (1000 if complete else severity) + event_count
    return Alert(document=document, window_start=window_start, version=version, complete=complete)


class PoisonDocument(Document):
    """Gives away a field that no mapping knows, as a mistake in the alert's classes would."""

    def to_json(self) -> dict[str, Any]:
        """The document and the surprise."""
        return {**super().to_json(), "surprise": "hunter2"}


def poison(number: int) -> Alert:
    """Build an alert whose document a strict mapping refuses."""
    good = alert(number)
    return replace(good, document=PoisonDocument.model_validate(good.document.model_dump(by_alias=True)))
