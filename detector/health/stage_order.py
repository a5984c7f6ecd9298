"""Stage order: requests that were answered before they came, by the clock of their API server."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from detector.event import AuditEvent, parse_time
from detector.health import WEEK_SECONDS, Arrival, Finding, about_stream, health_rule
from detector.match import Level

ANSWERED_BEFORE: Final = health_rule(
    "a0d83f6b-5e27-49c1-92b4-7c8f0e6d1a35",
    "Request Answered before It Came",
    Level.LOW,
    description=(
        "The stageTimestamp of events lies more than a second before their requestReceivedTimestamp: the clock of the "
        "API server was set back meanwhile, or somebody wrote the event. Misses events with one of the two times only."
    ),
    message="audit events of {name} were answered before they came: the clock of an API server was set back, or "
    "the log was written by another ({count} events)",
    covers=("audit-gap",),
    fold_seconds=WEEK_SECONDS,
)
RULES: Final = (ANSWERED_BEFORE,)

_ROUNDING: Final = timedelta(seconds=1)  # collectors cut digits off


class StageOrder(msgspec.Struct):
    """Needs no memory."""

    def look(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        """Compare the two times of each event, at first as texts: an API server writes both in one form."""
        suspects = [event for event in events if event.stage_timestamp < event.request_received_timestamp]
        for event in suspects:
            answered, received = parse_time(event.stage_timestamp), parse_time(event.request_received_timestamp)
            if answered is not None and received is not None and answered < received - _ROUNDING:
                yield Finding(ANSWERED_BEFORE, about_stream("skew", arrival.stream, answered), of_stream=True)
