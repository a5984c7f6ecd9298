"""Normalise: which audit events speak of a request at all."""

from collections.abc import Sequence
from datetime import datetime

from detector.event import AuditEvent, event_time

_NOT_ANSWERED = "RequestReceived"


def normalise(
    events: Sequence[AuditEvent], since: datetime | None = None, until: datetime | None = None
) -> list[AuditEvent]:
    """Keep the events of requests that were answered, or tried to be, within `[since, until)` of event time.

    `RequestReceived` knows neither the answer nor the impersonated user and would count a request twice. Of a
    long-running request both `ResponseStarted` and `ResponseComplete` stay, for either may be missing; `fold.py` counts
    them once. An event without a stage, as some collectors make it, counts; one without a time is in any span.
    """
    answered = [event for event in events if event.stage != _NOT_ANSWERED]
    return [*within(answered, since, until)]


def within(
    events: Sequence[AuditEvent], since: datetime | None = None, until: datetime | None = None
) -> Sequence[AuditEvent]:
    """Keep the events of a span `[since, until)` of event time."""
    if since is None and until is None:
        return events
    return [event for event in events if _lies_within(event_time(event), since, until)]


def _lies_within(time: datetime | None, since: datetime | None, until: datetime | None) -> bool:
    if time is None:
        return True
    return (since is None or time >= since) and (until is None or time < until)
