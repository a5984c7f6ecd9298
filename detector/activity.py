"""Activity: one API request by one identity, as rules and features see it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from detector.address import Addresses
from detector.event import AuditEvent, event_time, parse_time
from detector.identity import Identity, from_event

MISSING: Final = object()
"""A body that was not logged, or is `null`."""
UNREADABLE: Final = object()
"""A body that was logged but cannot be decoded, or a part of it that a patch fetches from elsewhere: nobody knows."""
_INDEX: Final = re.compile("[+-]?[0-9]+|-")  # the API server's JSON patch takes signs, and counts `-1` from the end
_POD_SPEC_STEPS: Final = (
    ("spec",),  # pods
    ("spec", "template", "spec"),  # deployments, daemonsets, statefulsets, replicasets, jobs, replication controllers
    ("spec", "jobTemplate", "spec", "template", "spec"),  # cronjobs
    ("template", "spec"),  # pod templates
)
_DELETES: Final = frozenset({"delete", "deletecollection"})
_UNDATED: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(slots=True, eq=False)
class Activity:
    """One stage of one request, with what was added to it; what costs time is worked out once, when asked for."""

    event: AuditEvent
    identity: Identity
    addresses: Addresses
    _request_object: Any = field(default=None, init=False, repr=False)
    _response_object: Any = field(default=None, init=False, repr=False)
    _pod_specs: tuple[Any, ...] | None = field(default=None, init=False, repr=False)
    _time: datetime | None = field(default=None, init=False, repr=False)
    _received_time: datetime | None = field(default=None, init=False, repr=False)
    _received_micros: int = field(default=-1, init=False, repr=False)
    _request_key: bytes = field(default=b"", init=False, repr=False)

    @property
    def time(self) -> datetime:
        """When the logged stage was reached; the epoch if the event tells no time."""
        if self._time is None:
            self._time = event_time(self.event) or _UNDATED
        return self._time

    @property
    def received_time(self) -> datetime:
        """When the request came in: the same for every stage of one request."""
        if self._received_time is None:
            self._received_time = parse_time(self.event.request_received_timestamp) or self.time
        return self._received_time

    @property
    def received_micros(self) -> int:
        """`received_time` in whole microseconds since the epoch."""
        if self._received_micros < 0:
            self._received_micros = (self.received_time - _UNDATED) // _MICROSECOND
        return self._received_micros

    @property
    def request_object(self) -> Any:
        """The decoded request body, `MISSING` or `UNREADABLE`."""
        if self._request_object is None:
            self._request_object = _body(self.event.request_object)
        return self._request_object

    @property
    def response_object(self) -> Any:
        """The decoded response body, `MISSING` or `UNREADABLE`."""
        if self._response_object is None:
            self._response_object = _body(self.event.response_object)
        return self._response_object

    @property
    def pod_specs(self) -> tuple[Any, ...]:
        """The pod specs in the request body, wherever a workload keeps its own; every one that could be one.

        Each is an object, or `UNREADABLE` where a patch fetches it from elsewhere.
        """
        if self._pod_specs is None:
            body = self.request_object
            found = (_at(body, steps) for steps in _POD_SPEC_STEPS if isinstance(body, dict))
            self._pod_specs = tuple(spec for spec in found if isinstance(spec, dict) or spec is UNREADABLE)
        return self._pod_specs

    @property
    def truncated(self) -> bool:
        """True where the API server removed the bodies because the event was too big."""
        return self.event.annotations.get("audit.k8s.io/truncated") == "true"

    @property
    def request_key(self) -> bytes:
        """Digest (16 bytes) of the request, equal for its stages and for a second delivery of the same event.

        It covers all that tells two requests apart, for the auditID alone is the client's to choose.
        """
        if not self._request_key:
            event = self.event
            effective = event.impersonated_user.username if event.impersonated_user else None
            parts = (
                event.audit_id,
                event.request_received_timestamp or event.stage_timestamp,
                event.verb,
                event.request_uri,
                event.user.username,
                effective,
                event.user_agent,
                event.source_ips,
            )
            self._request_key = blake2b(repr(parts).encode(), digest_size=16).digest()
        return self._request_key

    def keep_request_key(self, key: bytes) -> None:
        """Take over the key of the whole request, for an activity that was restored from a part of it."""
        self._request_key = key

    @property
    def path(self) -> str:
        """The path of the request URI, percent-decoded once; the query is not part of it."""
        return unquote(self.event.request_uri.partition("?")[0])

    @property
    def dry_run(self) -> bool:
        """Whether nothing was stored, as the API server reads it: a parameter, or of a delete the options in its body.

        `?fieldManager=a?dryRun=All` is none. A delete with a body ignores the parameter, so it counts for nothing where
        the body may not have been logged. Source: kubernetes/apiserver endpoints/handlers/delete.go, DeleteResource.
        """
        if self.event.verb in _DELETES:
            if isinstance(self.request_object, dict):
                return self.request_object.get("dryRun") == ["All"]
            if self.request_object is not MISSING or self.event.level == "Metadata" or self.truncated:
                return False
        query = self.event.request_uri.partition("?")[2]
        return "dryRun=" in query and ("dryRun", "All") in parse_qsl(query)

    @property
    def command(self) -> str:
        """The command line of an exec or attach, its words joined by spaces; empty for any other request.

        A real API server has it in the request URI only; older clients' and test events may hold it in the body.
        """
        object_ref = self.event.object_ref
        if object_ref is None or object_ref.subresource not in ("exec", "attach"):
            return ""
        query = self.event.request_uri.partition("?")[2]  # as Go reads it: a `#` begins no fragment, it hides nothing
        words = [value for key, value in parse_qsl(query, keep_blank_values=True) if key == "command"]
        if not words and isinstance(self.request_object, dict):
            body = self.request_object.get("command")
            words = [word for word in body if isinstance(word, str)] if isinstance(body, list) else []
        return " ".join(words)


def activities(events: Sequence[AuditEvent], locate: Callable[[list[str]], Addresses]) -> list[Activity]:
    """Name who acted, and from where, in each event."""
    return [Activity(event, from_event(event), locate(event.source_ips)) for event in events]


def _body(raw: msgspec.Raw) -> Any:
    if not bytes(raw):
        return MISSING
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # of a raw body only the outline was checked
        return UNREADABLE
    return MISSING if body is None else _from_json_patch(body)


def _at(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        if not isinstance(value, dict):
            return value if value is UNREADABLE else None
        value = value.get(step)
    return value


def _from_json_patch(body: Any) -> Any:
    """Turn a JSON patch into the part of an object that it sets, so that one rule reads every kind of write.

    `[{"op": "add", "path": "/spec/hostPID", "value": true}]` becomes `{"spec": {"hostPID": true}}`; an index becomes
    an element of a list. What is moved or copied from elsewhere in the object is `UNREADABLE`, for the object is not in
    the event. Any other array is returned as it is. Source: RFC 6902, RFC 6901.
    """
    if not (isinstance(body, list) and body and all(isinstance(item, dict) and "op" in item for item in body)):
        return body
    patched: dict[str, Any] = {}
    for operation in body:
        path = operation.get("path")
        if operation["op"] not in ("add", "replace", "copy", "move") or not isinstance(path, str):
            continue
        fetched = operation["op"] in ("copy", "move")
        steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
        if fetched and not steps:
            return UNREADABLE
        _set(patched, steps, UNREADABLE if fetched else operation.get("value"))
    return patched


def _set(target: dict[str, Any], steps: list[str], value: Any) -> None:
    """Put `value` where `steps` lead; indices and `-` append an element to the list at that place."""
    if not steps:
        if isinstance(value, dict):
            target.update(value)
        return
    position = 0
    while position < len(steps) - 1:
        step, following = steps[position], steps[position + 1]
        if _INDEX.fullmatch(following) and not isinstance(target.get(step), dict):
            elements = target.setdefault(step, [])
            if not isinstance(elements, list):
                return
            if position + 2 == len(steps):
                elements.append(value)
                return
            inner: Any = {}
            elements.append(inner)
            position += 2
        else:
            inner = target.setdefault(step, {})
            if isinstance(inner, list):  # a map whose first key was a number, and looked like an index
                inner.append({})
                inner = inner[-1]
            position += 1
        if not isinstance(inner, dict):
            return
        target = inner
    target[steps[-1]] = value
