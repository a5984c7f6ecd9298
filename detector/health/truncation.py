"""Truncation: events whose bodies the API server removed because they were too big, perhaps made so on purpose."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from detector.event import AuditEvent, event_time
from detector.health import (
    HOUR_SECONDS,
    NAME_CHARACTERS,
    WEEK_SECONDS,
    Arrival,
    Finding,
    about_stream,
    health_rule,
    is_change,
    is_sensitive,
)
from detector.match import Level

TRUNCATED_WRITE: Final = health_rule(
    "e2a4c7d1-6b35-4b8e-9d0a-3f5c1e7b8a42",
    "Body of a Sensitive Write Truncated",
    Level.LOW,
    description=(
        "Somebody wrote RBAC, admission, certificates, pods or what makes pods, and the body was too big for the audit "
        "log: no rule could read it. An ordinary object of these kinds is far below the limit of 100 KiB; padding, a "
        "long annotation for one, hides a privileged container. Misses what a collector cuts without a mark."
    ),
    message="{user} wrote {resource} {name} in {namespace} from {source} with a body too big for the audit log "
    "({count} writes): read the object itself",
    covers=("degraded-evidence", "audit-gap"),
    group_by=("objectRef.resource",),
)
TRUNCATED_BURST: Final = health_rule(
    "1c9e5f83-0a7d-4e26-8b1f-7d4a2c6e9b05",
    "Many Sensitive Writes Truncated",
    Level.MEDIUM,
    description=(
        "One identity made five or more writes within an hour whose bodies were too big for the audit log, on RBAC, "
        "admission, certificates, pods or what makes pods. Misses a single padded write, which is a low alert, and "
        "writes that are spread over hours."
    ),
    message="{user} made five or more sensitive writes within an hour from {source} with bodies too big for the audit "
    "log, {resource} {name} in {namespace} among them: read the objects themselves",
    covers=("degraded-evidence", "audit-gap"),
)
TRUNCATED_SHARE: Final = health_rule(
    "7a3d9b60-58c2-4f94-a6e7-2b0f8d1c4e39",
    "Much of the Audit Stream Truncated",
    Level.LOW,
    description=(
        "Of 1,000 consecutive events 50 or more had lost their bodies for their size: rules that read bodies are half "
        "blind. A policy that logs the answers of lists does that, or a limit of the API server that is too small."
    ),
    message="many audit events of {name} lost their bodies for their size: log no answers of lists "
    "(level Request or Metadata for get, list and watch), or raise --audit-log-truncate-max-event-size",
    covers=("audit-gap",),
    fold_seconds=WEEK_SECONDS,
)
RULES: Final = (TRUNCATED_WRITE, TRUNCATED_BURST, TRUNCATED_SHARE)

_MARK: Final = "audit.k8s.io/truncated"
_BURST_WRITES: Final = 5
_BLOCK_EVENTS: Final = 1_000
_BLOCK_TRUNCATED: Final = 50
_IDENTITIES_KEPT: Final = 1_000


class Truncation(msgspec.Struct):
    """What was truncated lately."""

    events: int = 0
    block: int = 0
    """The block of consecutive events that the last truncated one lay in."""
    truncated: int = 0
    """Events of that block."""
    by_identity: dict[str, tuple[int, int]] = {}
    """Per identity an hour and how many sensitive writes of that hour were truncated."""

    def look(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        """Look for the mark that the API server leaves."""
        if any([_MARK in event.annotations for event in events]):  # noqa: C419 faster
            for place, event in enumerate(events, start=self.events):
                if event.annotations.get(_MARK) == "true":
                    yield from self._share(arrival.stream, event, place // _BLOCK_EVENTS)
                    yield from self._write(event)
        self.events += len(events)

    def _share(self, stream: str, event: AuditEvent, block: int) -> Iterator[Finding]:
        if block != self.block:
            self.block, self.truncated = block, 0
        self.truncated += 1
        time = event_time(event)
        if self.truncated == _BLOCK_TRUNCATED and time is not None:
            yield Finding(TRUNCATED_SHARE, about_stream("truncation", stream, time), of_stream=True)

    def _write(self, event: AuditEvent) -> Iterator[Finding]:
        ref, time = event.object_ref, event_time(event)
        if ref is None or time is None or event.stage != "ResponseComplete":
            return
        if not (is_change(event) and is_sensitive(ref)):
            return
        yield Finding(TRUNCATED_WRITE, event, group=(ref.resource,))
        name = event.user.username[:NAME_CHARACTERS]
        hour = int(time.timestamp() // HOUR_SECONDS)
        known_hour, writes = self.by_identity.pop(name, (hour, 0))
        writes = writes + 1 if known_hour == hour else 1
        self.by_identity[name] = (hour, writes)
        if len(self.by_identity) > _IDENTITIES_KEPT:
            del self.by_identity[next(iter(self.by_identity))]
        if writes >= _BURST_WRITES:
            yield Finding(TRUNCATED_BURST, event)
