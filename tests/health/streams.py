"""Streams of audit events for the checks: when each came, and what differs in it from an ordinary one."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from detector.address import Locator
from detector.event import AuditEvent, from_mapping
from detector.health import Arrival, Needs
from detector.health.monitor import Checks, Monitor
from detector.match import Match
from tests.events import line

START = datetime(2026, 11, 23, tzinfo=UTC)
POD = {"resource": "pods", "namespace": "shop", "name": "cart"}
BINDING = {"resource": "clusterrolebindings", "apiGroup": "rbac.authorization.k8s.io", "name": "ops"}


def line_at(minutes: float, number: int = 0, **differences: Any) -> bytes:
    """An event so many minutes after the start; its auditID is a UUID made of both."""
    time = stamp(minutes)
    audit_id = str(UUID(int=int(minutes * 60_000_000) << 20 | number, version=4))
    times = {"requestReceivedTimestamp": time, "stageTimestamp": time, "auditID": audit_id}
    return line(**{**times, **differences})


def at(minutes: float, number: int = 0, **differences: Any) -> AuditEvent:
    """The same, decoded."""
    return from_mapping(json.loads(line_at(minutes, number, **differences)))


def stamp(minutes: float) -> str:
    """A time so many minutes after the start, as an API server writes it."""
    return (START + timedelta(minutes=minutes)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def steady(start: float, end: float, every: float = 1.0) -> list[AuditEvent]:
    """An event a minute."""
    count = int((end - start) / every)
    return [at(start + every * index) for index in range(count)]


def look(
    *batches: Iterable[AuditEvent],
    checks: Checks | None = None,
    arrival: Arrival | None = None,
    needs: Needs | None = None,
) -> list[Match]:
    """What all checks find in batches of one stream."""
    monitor = Monitor(Locator(()).locate, needs)
    checks = checks if checks is not None else Checks()
    arrival = arrival or Arrival("a")
    return [match for batch in batches for match in monitor.look(checks, arrival, list(batch))]


def names(matches: Sequence[Match]) -> list[str]:
    """The rules that fired."""
    return [match.rule.name for match in matches]
