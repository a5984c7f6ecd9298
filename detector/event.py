"""AuditEvent: one `audit.k8s.io/v1` Event as typed fields, its bodies left undecoded until a rule asks.

Source: kubernetes/apiserver pkg/apis/audit/v1/types.go, and what a real kube-apiserver 1.35.4 was seen to write.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from detector.errors import DecodeError

EVENT_KIND: Final = "Event"
_EARLIEST: Final = datetime(2014, 1, 1, tzinfo=UTC)  # Kubernetes is no older; a year 1 would stretch every dashboard


class User(msgspec.Struct, gc=False):
    """Who was authenticated; all fields are empty in a failed authentication (`user: {}`)."""

    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class ObjectRef(msgspec.Struct, rename="camel", gc=False):
    """What was asked for; absent from an event on a non-resource URL. An empty `api_group` is the core group."""

    resource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_group: str = ""
    api_version: str = ""
    resource_version: str = ""
    subresource: str = ""


class ResponseStatus(msgspec.Struct, gc=False):
    """How the request ended; `code` is None where no status was logged."""

    code: int | None = None
    status: str = ""
    reason: str = ""
    message: str = ""


class AuditEvent(msgspec.Struct, rename="camel", gc=False):
    """One audit event.

    In every text field an empty string and an absent field are the same: the API server leaves empty ones out.
    """

    kind: str = ""
    level: str = ""
    audit_id: str = msgspec.field(name="auditID", default="")
    """Chosen by the client if it likes (`Audit-ID` header): never an identity, a key or a reason to trust."""
    stage: str = ""
    request_uri: str = msgspec.field(name="requestURI", default="")
    verb: str = ""
    user: User = msgspec.field(default_factory=User)
    impersonated_user: User | None = None
    source_ips: list[str] = msgspec.field(name="sourceIPs", default_factory=list)
    """All but the last entry are what the client claims (`X-Forwarded-For`)."""
    user_agent: str = ""
    object_ref: ObjectRef | None = None
    response_status: ResponseStatus | None = None
    request_object: msgspec.Raw = msgspec.Raw()
    """JSON of any shape, an array for a JSON patch; empty where the audit level left it out."""
    response_object: msgspec.Raw = msgspec.Raw()
    request_received_timestamp: str = ""
    stage_timestamp: str = ""
    annotations: dict[str, str] = {}


_decoder: Final = msgspec.json.Decoder(AuditEvent)
decode_native: Final = _decoder.decode
"""Decode the bytes of one event; raises `msgspec.DecodeError` on bytes that are not one JSON object of that type."""


def is_audit_event(event: AuditEvent) -> bool:
    """Tell an audit event from any other JSON object; items of a webhook's EventList carry no `kind`."""
    return bool((event.audit_id or event.kind == EVENT_KIND) and (event.verb or event.request_uri))


def from_mapping(document: Mapping[str, Any]) -> AuditEvent:
    """Build an event from decoded JSON, putting up with fields of a wrong type.

    A text field that holds something else takes its text (a list its entries, joined by commas); a number as text
    is read as a number; what cannot be read so is left out.

    Raises:
        DecodeError: `not_audit`, when the document holds no audit event.
    """
    event = AuditEvent(
        kind=_text(document.get("kind")),
        level=_text(document.get("level")),
        audit_id=_text(document.get("auditID")),
        stage=_text(document.get("stage")),
        request_uri=_text(document.get("requestURI")),
        verb=_text(document.get("verb")),
        user=_user(document.get("user")) or User(),
        impersonated_user=_user(document.get("impersonatedUser")),
        source_ips=_texts(document.get("sourceIPs")),
        user_agent=_text(document.get("userAgent")),
        object_ref=_texts_struct(document.get("objectRef"), ObjectRef),
        response_status=_status(document.get("responseStatus")),
        request_object=_raw(document.get("requestObject")),
        response_object=_raw(document.get("responseObject")),
        request_received_timestamp=_text(document.get("requestReceivedTimestamp")),
        stage_timestamp=_text(document.get("stageTimestamp")),
        annotations=_text_map(document.get("annotations")),
    )
    if not is_audit_event(event):
        keys = ", ".join(key[:40] for key in sorted(map(str, document))[:8])
        raise DecodeError("not_audit", f"no auditID with a verb or requestURI; its keys are {keys or 'none'}")
    return event


def parse_time(text: str) -> datetime | None:
    """Read a timestamp as UTC: RFC 3339 with any number of digits, or with a space and no zone; None if it is neither.

    Digits past the microsecond are cut; a time before 2014 is no time of Kubernetes and gives None.
    """
    try:
        time = datetime.fromisoformat(text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # the year 1 or 9999 may lie outside of all years once it is UTC
        return None
    return time if time >= _EARLIEST else None


def event_time(event: AuditEvent) -> datetime | None:
    """When the logged stage was reached (`stageTimestamp`), or else when the request came; None if neither is told."""
    return parse_time(event.stage_timestamp) or parse_time(event.request_received_timestamp)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return str(value)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [_text(item) for item in value] if isinstance(value, list) else []


def _text_map(value: object) -> dict[str, str]:
    return {str(key): _text(item) for key, item in value.items()} if isinstance(value, Mapping) else {}


def _user(value: object) -> User | None:
    if not isinstance(value, Mapping):
        return None
    extra = value.get("extra")
    return User(
        username=_text(value.get("username")),
        uid=_text(value.get("uid")),
        groups=_texts(value.get("groups")),
        extra={str(key): _texts(item) for key, item in extra.items()} if isinstance(extra, Mapping) else {},
    )


_StructT = TypeVar("_StructT", bound=msgspec.Struct)


def _texts_struct(value: object, struct: type[_StructT]) -> _StructT | None:
    if not isinstance(value, Mapping):
        return None
    names = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    return struct(**{field: _text(value.get(name)) for field, name in names})


def _status(value: object) -> ResponseStatus | None:
    if not isinstance(value, Mapping):
        return None
    code = value.get("code")
    try:
        number = int(code) if isinstance(code, int | float | str) else None
    except (ValueError, OverflowError):
        number = None
    texts = {name: _text(value.get(name)) for name in ("status", "reason", "message")}
    return ResponseStatus(code=number, **texts)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw() if value is None else msgspec.Raw(msgspec.json.encode(value))
