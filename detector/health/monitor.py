"""Monitor: every check of the stream's health, in a row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from detector.activity import Activity
from detector.address import Addresses
from detector.event import AuditEvent
from detector.health import (
    Arrival,
    Check,
    Finding,
    HealthRule,
    Needs,
    audit_id,
    policy_depth,
    silence,
    stage_order,
    truncation,
    unanswered,
)
from detector.health.audit_id import AuditIds
from detector.health.policy_depth import PolicyDepth
from detector.health.silence import Silence
from detector.health.stage_order import StageOrder
from detector.health.truncation import Truncation
from detector.health.unanswered import Unanswered
from detector.identity import AUDIT_STREAM, from_event
from detector.match import Match


class Checks(msgspec.Struct):
    """All checks with what they remember: part of the snapshot."""

    silence: Silence = msgspec.field(default_factory=Silence)
    stage_order: StageOrder = msgspec.field(default_factory=StageOrder)
    truncation: Truncation = msgspec.field(default_factory=Truncation)
    unanswered: Unanswered = msgspec.field(default_factory=Unanswered)
    audit_ids: AuditIds = msgspec.field(default_factory=AuditIds)
    policy_depth: PolicyDepth = msgspec.field(default_factory=PolicyDepth)


RULES: Final[tuple[HealthRule, ...]] = (
    *silence.RULES,
    *stage_order.RULES,
    *truncation.RULES,
    *unanswered.RULES,
    *audit_id.RULES,
    *policy_depth.RULES,
)
"""What every finding says of itself, and the ideas that it covers."""


class Monitor:
    """Runs the checks on every batch.

    Args:
        locate: finds the source address of a request.
        needs: which bodies the loaded rules look into.
    """

    def __init__(self, locate: Callable[[list[str]], Addresses], needs: Needs | None = None) -> None:
        self._locate = locate
        self._needs = needs or {}

    def look(self, checks: Checks, arrival: Arrival, events: Sequence[AuditEvent]) -> list[Match]:
        """Every finding on some events of one stream, as matches that fold like those of rules."""
        arrival = arrival._replace(needs=self._needs)
        return [self._match(finding) for check in _each(checks) for finding in check.look(arrival, events)]

    def _match(self, finding: Finding) -> Match:
        event = finding.event
        if finding.of_stream:
            activity = Activity(event, AUDIT_STREAM, Addresses())
        else:
            activity = Activity(event, from_event(event), self._locate(event.source_ips))
        return Match(finding.rule.metadata, activity, finding.group)


def _each(checks: Checks) -> Iterator[Check]:
    for name in checks.__struct_fields__:
        yield getattr(checks, name)
