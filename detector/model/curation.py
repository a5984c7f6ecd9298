"""Curation: which activities may teach a model; what is left out is counted by its reason."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from detector.activity import Activity

AUDIT_ID_MAX: Final = 256  # as much of an auditID as an alert holds
_REMEMBERED: Final = 200_000  # requests among which a repetition is found; files that overlap are read side by side


class Span(NamedTuple):
    """All that an identity did in a time, ends included."""

    first: datetime
    last: datetime
    reason: str


@dataclass(slots=True)
class Withheld:
    """Requests that must not teach, each with the reason."""

    by_audit_id: dict[str, str] = field(default_factory=dict)
    by_identity: dict[str, list[Span]] = field(default_factory=dict)

    def reason(self, activity: Activity) -> str | None:
        """Why an activity must not teach; None if it may."""
        known = self.by_audit_id.get(activity.event.audit_id[:AUDIT_ID_MAX])
        if known is not None or not self.by_identity:
            return known
        time = activity.received_time
        spans = self.by_identity.get(activity.identity.name, ())
        return next((span.reason for span in spans if span.first <= time <= span.last), None)


@dataclass(slots=True)
class Curation:
    """Sorts out what must not teach: events without a time, events given twice, requests that are withheld."""

    withheld: Withheld = field(default_factory=Withheld)
    left_out: Counter[str] = field(default_factory=Counter)
    """By reason."""
    _seen: dict[bytes, None] = field(default_factory=dict)

    def keep(self, activities: Iterable[Activity]) -> list[Activity]:
        """The activities that may teach, in their order."""
        return [activity for activity in activities if self._may_teach(activity)]

    def _may_teach(self, activity: Activity) -> bool:
        if activity.time.timestamp() <= 0:  # an event that tells no time stands at the epoch
            self.left_out["without a time"] += 1
            return False
        key = activity.request_key + activity.event.stage[:32].encode()
        if key in self._seen:
            self.left_out["given twice"] += 1
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        reason = self.withheld.reason(activity)
        if reason is not None:
            self.left_out[reason] += 1
        return reason is None
