"""Alert: the ECS document that an analyst sees; the index template of Elasticsearch is derived from these classes.

It copies from a request only what stands here: never a body, a request URI or a token.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from detector.identity import IdentityKind

ECS_VERSION: Final = "8.17.0"
ATTACK_FRAMEWORK: Final = "MITRE ATT&CK"
AUDIT_IDS_KEPT: Final = 1000
EVIDENCE_KEPT: Final = 5
ADDRESSES_KEPT: Final = 100
COMPLETE_VERSION: Final = 1 << 52
"""Above the version of every open alert: severities reach 99 << 40, with 2 ** 40 changes below each."""

Ip: TypeAlias = Annotated[str, "ip"]
Text: TypeAlias = Annotated[str, "text"]


def content_id(parts: Sequence[str]) -> str:
    """The id of what some texts name together: 40 hexadecimal digits, and no two lists of texts share one."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:40]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class EcsMeta(_Part):
    """Which ECS this document follows."""

    version: str = ECS_VERSION


class EventPart(_Part):
    """`event.*`; `created` and `ingested` are the only fields that differ between two runs over one input."""

    kind: Literal["alert"] = "alert"
    module: Literal["detector"] = "detector"
    dataset: Literal["detector.alerts"] = "detector.alerts"
    category: tuple[str, ...] = ("api",)
    type: tuple[str, ...]
    action: str
    outcome: Literal["success", "failure", "unknown"]
    severity: int
    risk_score: float
    id: str
    reference: str | None = None
    created: datetime
    ingested: datetime


class RulePart(_Part):
    """`rule.*`."""

    id: str
    name: str
    version: str
    ruleset: str
    description: str | None = None
    reference: str | None = None


class Named(_Part):
    """An id and a name, of a tactic or a technique, each a list as ECS has it."""

    id: tuple[str, ...] = ()
    name: tuple[str, ...] = ()


class ThreatPart(_Part):
    """`threat.*`, ATT&CK of the pinned version."""

    framework: str
    tactic: Named
    technique: Named


class EffectiveUser(_Part):
    """`user.effective.*`: the impersonated identity."""

    name: str


class UserPart(_Part):
    """`user.*`: the accountable identity."""

    name: str
    id: str | None = None
    roles: tuple[str, ...] = ()
    effective: EffectiveUser | None = None


class AddressPart(_Part):
    """`source.*` is the trusted hop, `client.*` what the client claims."""

    ip: Ip


class UserAgentPart(_Part):
    """`user_agent.*`: text that the client chose."""

    original: str


class ClusterPart(_Part):
    """`orchestrator.cluster.*`."""

    name: str


class ResourcePart(_Part):
    """`orchestrator.resource.*`."""

    type: str | None = None
    name: str | None = None


class OrchestratorPart(_Part):
    """`orchestrator.*`: what was touched."""

    type: Literal["kubernetes"] = "kubernetes"
    cluster: ClusterPart | None = None
    namespace: str | None = None
    resource: ResourcePart


class RelatedPart(_Part):
    """`related.*`: every name and address that the alert knows."""

    user: tuple[str, ...] = ()
    ip: tuple[Ip, ...] = ()


class IdentityPart(_Part):
    """`detector.identity.*`."""

    kind: IdentityKind
    namespace: str | None = None


class Evidence(_Part):
    """One contributing request; no body."""

    time: datetime
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int | None
    source: str
    user_agent: str


class ReasonPart(_Part):
    """Why behaviour is strange: what was seen, and what is usual for the identity and for its peers."""

    feature: str
    value: str
    usual: str
    peers: str
    contribution: float


class DetectorPart(_Part):
    """`detector.*`: what ECS has no place for."""

    kind: Literal["rule", "behaviour", "chain", "health"]
    audit_ids: tuple[str, ...]
    event_count: int
    first_seen: datetime
    last_seen: datetime
    identity: IdentityPart
    group: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...]
    degraded: bool
    score: float | None = None
    """Strangeness of a behaviour, 0 to 1."""
    threshold: float | None = None
    model: str | None = None
    """Name, version and hash of the model."""
    young: bool | None = None
    """The identity is known for too short a time to have habits of its own."""
    reasons: tuple[ReasonPart, ...] | None = None


class Document(_Part):
    """The whole document, as it is stored."""

    timestamp: datetime = Field(alias="@timestamp")
    ecs: EcsMeta = EcsMeta()
    message: Text
    event: EventPart
    rule: RulePart
    threat: ThreatPart | None = None
    user: UserPart
    source: AddressPart | None = None
    client: AddressPart | None = None
    user_agent: UserAgentPart | None = None
    orchestrator: OrchestratorPart
    related: RelatedPart
    detector: DetectorPart

    def to_json(self) -> dict[str, Any]:
        """The document as JSON values: times in ISO 8601 UTC, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json_text(self) -> str:
        """The same as one line of ASCII."""
        return self.model_dump_json(by_alias=True, exclude_none=True, ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class Alert:
    """One version of an alert, on its way to the sinks.

    An alert is written when it opens, again when its severity rises or its counts have grown for a while, and a last
    time when its fold window has closed. All versions have one id and one `window_start`.
    """

    document: Document
    window_start: datetime
    """Start of the fold window in event time: the same for every version, so it can choose where the id is stored."""
    version: int
    """Grows with each version of one id: storage keeps the greatest, in whatever order they arrive."""
    complete: bool
    """True for the last version."""

    @property
    def id(self) -> str:
        """The content hash, 40 hexadecimal digits."""
        return self.document.event.id
