"""Unanswered: a write that came in, and of whose end the audit log tells nothing.

Server-side apply of a YAML body makes a kube-apiserver 1.35.4 that logs bodies lose the event of the answer (fixed by
kubernetes/kubernetes#139419). Its `RequestReceived` event stays, where the audit policy keeps that stage.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from detector.event import AuditEvent, ObjectRef, User, event_time
from detector.health import NAME_CHARACTERS, Arrival, Finding, health_rule, is_change, is_sensitive
from detector.health.clock import Clock
from detector.match import Level

_MESSAGE: Final = (
    "{user} sent a {verb} of {resource} {name} in {namespace} from {source}, and its end was never logged ({count} "
    "such requests): read the object itself"
)
UNANSWERED: Final = health_rule(
    "3e8b1d57-94a6-4c0f-b7d2-5a1e9c6f0d84",
    "Write Without a Logged Answer",
    Level.LOW,
    description=(
        "A write came in, and within five minutes no event told how it ended. A crash of the API server does that, or "
        "a full audit buffer. Needs an audit policy that keeps the stage RequestReceived for the write. Misses writes "
        "of the last five minutes of a log file that is not followed, and all but the last 10,000 that wait."
    ),
    message=_MESSAGE,
    covers=("audit-gap",),
)
UNANSWERED_SENSITIVE: Final = health_rule(
    "b94f6a20-7d1c-4e83-9f5b-0c8a2d7e3b16",
    "Sensitive Write Without a Logged Answer",
    Level.MEDIUM,
    description=(
        "As Write Without a Logged Answer, on RBAC, admission, certificates, pods or what makes pods. Server-side "
        "apply of a YAML body does that on API servers that log bodies (1.35.4 and others before "
        "kubernetes/kubernetes#139419): whoever may patch an object can change it unseen. kubectl sends "
        "JSON. Misses what the low one misses."
    ),
    message=_MESSAGE,
    covers=("audit-gap",),
)
RULES: Final = (UNANSWERED, UNANSWERED_SENSITIVE)

_RECEIVED: Final = "RequestReceived"
_WAIT: Final = timedelta(minutes=5)  # the API server itself gives up after one; less than folds wait for late events
_WAITING_KEPT: Final = 10_000
_STREAMS_KEPT: Final = 1_000
_URI_CHARACTERS: Final = 2_048
_LIST_KEPT: Final = 50
_MINUTE_CHARACTERS: Final = len("2026-11-23T09:15")


class Waiting(msgspec.Struct):
    """What an alert will need of a request that came in."""

    stream: str
    time: datetime
    received: str
    audit_id: str
    verb: str
    request_uri: str
    username: str
    groups: list[str]
    source_ips: list[str]
    user_agent: str
    ref: ObjectRef | None

    def to_event(self) -> AuditEvent:
        """The event anew, without what was too long to keep."""
        return AuditEvent(
            audit_id=self.audit_id,
            stage=_RECEIVED,
            verb=self.verb,
            request_uri=self.request_uri,
            user=User(username=self.username, groups=self.groups),
            source_ips=self.source_ips,
            user_agent=self.user_agent,
            object_ref=self.ref,
            request_received_timestamp=self.received,
            stage_timestamp=self.received,
        )


class Unanswered(msgspec.Struct):
    """The writes that wait for their answer, in the order in which they came."""

    waiting: dict[str, Waiting] = {}
    clocks: dict[str, Clock] = {}
    """Of the streams in which a request was seen to come in."""
    minutes: dict[str, str] = {}
    """Of the event of each such stream that was looked at last."""

    def look(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        """Pair each write that came in with any later stage of it."""
        if arrival.stream not in self.clocks:
            stages = [event.stage for event in events]
            if _RECEIVED in stages:
                start = stages.index(_RECEIVED)
                yield from self._pair(arrival, events[:start])
                self._open(arrival.stream, events[start])
                events = events[start:]
        yield from self._pair(arrival, events)

    def _pair(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        if not self.clocks:
            return
        clock = self.clocks.get(arrival.stream)
        for event in events:
            if event.stage == _RECEIVED:
                if is_change(event):
                    self._wait(arrival.stream, event)
            elif self.waiting:
                self.waiting.pop(_key(event), None)
            if clock is not None:
                yield from self._tick(arrival.stream, clock, event)

    def _open(self, stream: str, event: AuditEvent) -> None:
        time = event_time(event)
        if time is None:
            return
        if len(self.clocks) >= _STREAMS_KEPT:
            oldest = min(self.clocks, key=lambda each: (self.clocks[each].now, each))
            del self.clocks[oldest], self.minutes[oldest]
        self.clocks[stream] = Clock(time)
        self.minutes[stream] = ""

    def _wait(self, stream: str, event: AuditEvent) -> None:
        time = event_time(event)
        if time is None:
            return
        self.waiting[_key(event)] = Waiting(
            stream=stream,
            time=time,
            received=event.request_received_timestamp or event.stage_timestamp,
            audit_id=event.audit_id[:NAME_CHARACTERS],
            verb=event.verb,
            request_uri=event.request_uri[:_URI_CHARACTERS],
            username=event.user.username[:_URI_CHARACTERS],
            groups=event.user.groups[:_LIST_KEPT],
            source_ips=event.source_ips[-_LIST_KEPT:],
            user_agent=event.user_agent[:_URI_CHARACTERS],
            ref=event.object_ref,
        )
        if len(self.waiting) > _WAITING_KEPT:
            del self.waiting[next(iter(self.waiting))]

    def _tick(self, stream: str, clock: Clock, event: AuditEvent) -> Iterator[Finding]:
        """Move the stream's time on; what has waited too long is a finding."""
        minute = event.stage_timestamp[:_MINUTE_CHARACTERS]
        if minute == self.minutes[stream] and clock.leap is None:
            return
        self.minutes[stream] = minute
        time = event_time(event)
        if time is None:
            return
        clock.move(time)
        overdue = [key for key, each in self.waiting.items() if each.stream == stream and clock.now - each.time > _WAIT]
        for key in overdue:
            each = self.waiting.pop(key)
            rule = UNANSWERED_SENSITIVE if is_sensitive(each.ref) else UNANSWERED
            yield Finding(rule, each.to_event())


def _key(event: AuditEvent) -> str:
    """What every stage of a request tells alike; the auditID alone is the client's to choose."""
    return f"{event.request_received_timestamp} {event.audit_id[:NAME_CHARACTERS]}"
